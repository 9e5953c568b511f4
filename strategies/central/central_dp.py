"""Central DP: the clients' clipped updates and Gaussian noise, McMahan et al. 2018, arXiv 1710.06963.

Each client is asked in a round with probability q, independently of all others. With the clip norm S, the noise
multiplier z and the public m = expected_clients:

    mean <- (sum over those who came of delta_k * min(1, S / |delta_k|) + N(0, (z_delta * S)^2)) / m

With ``target_quantile`` the clip norm follows that quantile of the updates' norms (Andrew et al. 2021, arXiv
1905.03871), where b_k says whether update k kept to S:

    share <- 1/2 + (sum of (b_k - 1/2) + N(0, z_b^2)) / m;    S <- S * exp(-clip_learning_rate * (share - quantile))

The two releases look at the same sample and cost together what one with z costs, for z^-2 = z_delta^-2 + (2 z_b)^-2:
``clip_share`` of z^-2 is the counts', the rest the updates'. The amplification by sampling holds only where the server
decides who is asked and keeps it to itself; with q = 1, the default, none is claimed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from fl_core.privacy.accountant import noise_multiplier
from fl_core.privacy.events import PrivacyEvent
from fl_core.rng import BoolArray, NoiseSource
from fl_core.tree import FixedPointSum
from fl_core.types import ClientUpdate, FloatArray, Tensors
from strategies.base import StrategyState
from strategies.central.clipping import exact_sum, joint_norm
from strategies.central.user_level import UserLevel, require
from strategies.client import join_tensors, split_tensors

CLIP_NORM = "clip_norm"
BELOW = "below_clip_norm"
"""The running sum of b_k - 1/2, which also names its noise and its noisy value."""
_COUNT: Tensors = {BELOW: np.zeros(1, np.float32)}
LEAST_CLIP_NORM = 1e-3
"""The clip norm falls to this share of the first one and not further."""
_DRAW = 0
"""One step of a source's noise a round: the names of the tensors tell the draws apart."""


@dataclass(frozen=True, kw_only=True)
class CentralDP(UserLevel):
    """User-level privacy with independent noise in every round.

    Args:
        sample_rate: q; below 1 the server draws the clients of a round by it.
        target_quantile: where the clip norm is to lie among the norms; None keeps it fixed.
        clip_learning_rate: how fast the clip norm follows.
        clip_share: part of the budget, as a share of z^-2, that the counts for the clip norm take.
    """

    slot: ClassVar[str] = "central_dp"

    sample_rate: float = 1.0
    target_quantile: float | None = None
    clip_learning_rate: float = 0.2
    clip_share: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        require("sample_rate", 0 < self.sample_rate <= 1, "above 0, at most 1", self.sample_rate)
        quantile = self.target_quantile
        require("target_quantile", quantile is None or 0 < quantile < 1, "between 0 and 1, or null", quantile)
        require("clip_learning_rate", self.clip_learning_rate > 0, "above 0", self.clip_learning_rate)
        require("clip_share", 0 < self.clip_share < 1, "between 0 and 1", self.clip_share)

    def calibrate(self, rounds: int) -> float:
        """The least noise multiplier that keeps ``rounds`` subsampled Gaussians within epsilon."""
        return noise_multiplier(self.epsilon, self.delta, self.sample_rate, rounds, self.accountant)

    def takes_part(self, clients: Sequence[str], round: int, noise: NoiseSource) -> BoolArray:
        """Who is asked, bool [clients]: each with probability ``sample_rate``, independently (Poisson sampling)."""
        return noise.poisson_mask(_DRAW, len(clients), self.sample_rate)

    def spends(self, round: int, noise_multiplier: float) -> tuple[PrivacyEvent, ...]:
        """One subsampled Gaussian a round, which pays for updates and counts together."""
        return (PrivacyEvent(self.sample_rate, noise_multiplier, 1),)

    def describe(self) -> dict[str, Any]:
        """Plain values for the events: how clients are sampled, and how the clip norm moves."""
        adaptive = {"target_quantile": self.target_quantile, "clip_share": self.clip_share}
        fixed = {"mechanism": "gaussian", "sample_rate": self.sample_rate}
        return fixed if self.target_quantile is None else fixed | adaptive

    def own_slot(self, parts: Mapping[str, Tensors]) -> Tensors:
        """The clip norm before the first round, float32 [1], where it moves; nothing where it is fixed."""
        return {} if self.target_quantile is None else {CLIP_NORM: np.array([self.clip_norm], np.float32)}

    def current_clip_norm(self, state: StrategyState) -> float:
        """The clip norm of the open round: fixed, or where it has moved to."""
        return self.clip_norm if self.target_quantile is None else float(state.slots[self.slot][CLIP_NORM][0])

    def accumulate(self, state: StrategyState, update: ClientUpdate) -> StrategyState:
        """Add the clipped parts, and where the clip norm moves whether they kept to it (1/2 or -1/2)."""
        summed = super().accumulate(state, update)
        if self.target_quantile is None:
            return summed
        length = joint_norm({name: part.tensors for name, part in update.parts.items()})
        half: FloatArray = np.array([0.5 if length <= self.current_clip_norm(state) else -0.5], np.float32)
        count = state.sums.get(BELOW, FixedPointSum()).add({BELOW: half}, 1)
        return replace(summed, sums={**summed.sums, BELOW: count})

    def make(
        self, state: StrategyState, shapes: Mapping[str, Tensors], noise_multiplier: float, noise: NoiseSource
    ) -> Tensors:
        """The release of the open round: sums and count, each with its noise, divided by the public number."""
        counts = 0.0 if self.target_quantile is None else self.clip_share
        std = noise_multiplier / math.sqrt(1 - counts) * self.current_clip_norm(state)
        noisy = {part: self._noisy(state, part, like, std, noise) for part, like in shapes.items()}
        if self.target_quantile is not None:
            noisy[BELOW] = self._noisy(state, BELOW, _COUNT, noise_multiplier / (2 * math.sqrt(counts)), noise)
        return join_tensors({}, noisy)

    def read(
        self, state: StrategyState, shapes: Mapping[str, Tensors], released: Tensors
    ) -> tuple[dict[str, Tensors], Tensors]:
        """The noisy means by part, and the clip norm moved towards its quantile."""
        _, groups = split_tensors(released)
        means: dict[str, Tensors] = {part: groups[part] for part in shapes}
        if self.target_quantile is None:
            return means, {}
        share = min(1.0, max(0.0, 0.5 + float(groups[BELOW][BELOW][0])))
        moved = self.current_clip_norm(state) * math.exp(-self.clip_learning_rate * (share - self.target_quantile))
        return means, {CLIP_NORM: np.array([max(moved, LEAST_CLIP_NORM * self.clip_norm)], np.float32)}

    def _noisy(
        self, state: StrategyState, part: str, like: Tensors, std: float, noise: NoiseSource
    ) -> dict[str, FloatArray]:
        exact = exact_sum(state.sums.get(part, FixedPointSum()), like)
        return {
            name: ((total + std * noise.normal(_DRAW, f"{part}/{name}", total.shape)) / self.expected_clients).astype(
                np.float32
            )
            for name, total in exact.items()
        }
