"""DP-FTRL with tree aggregation, Kairouz et al. 2021, arXiv 2103.00039: no amplification is needed, or claimed.

Rounds t = 1 .. R of a tree release prefix sums of the clipped updates. Every node of a binary tree over the rounds has
one draw of noise, and a prefix takes the nodes that the binary digits of t name:

    N_t = sum over the bits l of t of node_l,    node_l ~ N(0, (z * S)^2), drawn anew when t becomes a multiple of 2^l
    mean_t <- (sum of the clipped updates of round t + N_t - N_{t-1}) / m

With FedAvg inside the model is start + lr * prefix sum, the FTRL of the paper; with FedAvgM inside it is DP-FTRLM; any
other server optimiser is post-processing of the same prefix sums. After R rounds the tree starts again.

A client takes part in exactly one round of a tree, which a hash of its name decides, so it touches at most
floor(log2 R) + 1 nodes, and a tree costs that many Gaussians without sampling. Nothing depends on who was online, and
nothing must be drawn in secret. A tree is paid for whole, before its first noise. The noise of the open nodes is in
the checkpoint, which must stay as private as the updates themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fl_core.privacy.accountant import noise_multiplier
from fl_core.privacy.events import PrivacyEvent
from fl_core.rng import BoolArray, NoiseSource, derive_seed
from fl_core.tree import FixedPointSum
from fl_core.types import FloatArray, Tensors
from strategies.base import StrategyState
from strategies.central.clipping import exact_sum
from strategies.central.user_level import UserLevel, require
from strategies.client import join_tensors, split_tensors

_NODE = "node of "
"""What stands before a part's name in a release for the new node's noise."""


@dataclass(frozen=True, kw_only=True)
class DpFtrl(UserLevel):
    """User-level privacy with noise that is correlated over the rounds.

    Args:
        restart_every: R, the rounds of a tree; ``expected_clients`` is about one R-th of all.
    """

    slot: ClassVar[str] = "dp_ftrl"

    restart_every: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require("restart_every", self.restart_every >= 1, "at least 1", self.restart_every)

    @property
    def nodes_of_a_client(self) -> int:
        """The most nodes of a tree that one round's updates enter."""
        return self.restart_every.bit_length()

    def calibrate(self, rounds: int) -> float:
        """The least noise multiplier that keeps ``rounds`` rounds within epsilon; a tree that is begun counts whole."""
        trees = -(-rounds // self.restart_every)
        return noise_multiplier(self.epsilon, self.delta, 1.0, trees * self.nodes_of_a_client, self.accountant)

    def takes_part(self, clients: Sequence[str], round: int, noise: NoiseSource) -> BoolArray:
        """Who is asked, bool [clients]: those whose turn in this tree it is."""
        tree, turn = divmod(round - 1, self.restart_every)
        turns = [derive_seed("turn", tree, client) % self.restart_every for client in clients]
        return np.array([own == turn for own in turns], dtype=np.bool_)

    def spends(self, round: int, noise_multiplier: float) -> tuple[PrivacyEvent, ...]:
        """The Gaussians of a whole tree in its first round, nothing in its others."""
        first = (round - 1) % self.restart_every == 0
        return (PrivacyEvent(1.0, noise_multiplier, self.nodes_of_a_client),) if first else ()

    def describe(self) -> dict[str, Any]:
        """Plain values for the events: the mechanism and the size of its tree."""
        return {"mechanism": "tree", "restart_every": self.restart_every, "nodes": self.nodes_of_a_client}

    def own_slot(self, parts: Mapping[str, Tensors]) -> Tensors:
        """Nothing: before the first round no node is open."""
        return {}

    def make(
        self, state: StrategyState, shapes: Mapping[str, Tensors], noise_multiplier: float, noise: NoiseSource
    ) -> Tensors:
        """The release of the open round: the step from one noisy prefix sum to the next, and the new node's noise."""
        turn = self._turn(state)
        gone = [level for level in _bits(turn - 1) if level not in _bits(turn)]
        groups: dict[str, dict[str, FloatArray]] = {}
        for part, like in shapes.items():
            exact = exact_sum(state.sums.get(part, FixedPointSum()), like)
            steps, nodes = groups.setdefault(part, {}), groups.setdefault(_NODE + part, {})
            for name, total in exact.items():
                draw = noise.normal(0, f"{part}/{name}", total.shape)
                nodes[name] = (noise_multiplier * self.clip_norm * draw).astype(np.float32)
                change = nodes[name].astype(np.float64)
                for level in gone:
                    change = change - state.slots[self.slot][_key(level, part, name)]
                steps[name] = ((total + change) / self.expected_clients).astype(np.float32)
        return join_tensors({}, groups)

    def read(
        self, state: StrategyState, shapes: Mapping[str, Tensors], released: Tensors
    ) -> tuple[dict[str, Tensors], Tensors]:
        """The noisy means by part, and the noise of the nodes that stay open."""
        turn = self._turn(state)
        _, groups = split_tensors(released)
        new, *kept = _bits(turn)
        nodes = {_key(new, part, name): node for part in shapes for name, node in groups[_NODE + part].items()}
        for level in kept:
            for part, like in shapes.items():
                nodes |= {key: state.slots[self.slot][key] for key in (_key(level, part, name) for name in like)}
        return {part: groups[part] for part in shapes}, nodes

    def _turn(self, state: StrategyState) -> int:
        """The round of the tree, t, from 1 to R."""
        return state.version % self.restart_every + 1


def _bits(turn: int) -> list[int]:
    """The levels of the nodes that make up the prefix, lowest first."""
    return [level for level in range(turn.bit_length()) if turn >> level & 1]


def _key(level: int, part: str, name: str) -> str:
    return f"{level}/{part}/{name}"
