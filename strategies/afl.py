"""Agnostic federated learning (AFL), Mohri et al. 2019, arXiv 1902.00146: as good as can be for the worst mixture.

The server keeps a mixture lambda over the clients and plays it against the model. Each round, over the clients S that
answered, with F_k their loss at the received model:

    w      <- w + (sum over S of lambda_k * (w_k - w)) / (sum over S of lambda_k)
    lambda <- projection onto the simplex of (lambda + mixture_learning_rate * F_k for k in S)

The projection is the Euclidean one. The paper's step on w is one gradient of all clients; here it is local training
and those who answered, and lambda of the others stays. A client that was never seen enters with the mean of the
others' lambda, which is the uniform mixture in the first round. One number a client is kept. Losses of private
examples leave the device, so it is refused under DP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from fl_core.parts import LOSS_PART, expected_tensors
from fl_core.tree import FixedPointSum, add_scaled
from fl_core.types import ClientUpdate, Part, Tensors
from strategies.base import MODEL_PART, Strategy, StrategyState, Trait
from strategies.client import LocalOutcome
from strategies.losses import loss_of, loss_part

MIXTURE = "mixture"
"""The slot of lambda by client_id, [1] each; and the running sum of lambda over those who answered."""
_LOSS_OF = f"{LOSS_PART} of "


@dataclass(frozen=True)
class AFL(Strategy):
    """A minimax game between the model and the mixture of clients that it serves worst."""

    traits: ClassVar[frozenset[Trait]] = frozenset({"uses_losses"})

    mixture_learning_rate: float = 0.1

    def __post_init__(self) -> None:
        if not self.mixture_learning_rate > 0:
            raise ValueError(f"strategy.args.mixture_learning_rate: expected above 0, got {self.mixture_learning_rate}")

    def init(self, model: Tensors) -> StrategyState:
        """The state before the first round, with an empty mixture: no client is known yet."""
        return StrategyState(model=model, slots={MIXTURE: {}})

    def conclude(self, outcome: LocalOutcome) -> tuple[Mapping[str, Tensors], Mapping[str, Tensors]]:
        """The parts w_k - w and F_k; a client remembers nothing."""
        return {MODEL_PART: outcome.delta, LOSS_PART: loss_part(outcome)}, {}

    def parts(self, model: Tensors) -> Mapping[str, Tensors]:
        """The change of the model, and the loss: one number, float32 [1]."""
        return {MODEL_PART: model, LOSS_PART: expected_tensors(LOSS_PART)}

    def accumulate(self, state: StrategyState, update: ClientUpdate) -> StrategyState:
        """Add lambda_k * (w_k - w) and lambda_k; the loss is kept by client.

        Raises:
            UpdateRejectedError: the loss is negative, or the sum would be too large.
        """
        loss = loss_of(update)
        share = _share(state.slots[MIXTURE], update.client_id)
        delta = update.parts[MODEL_PART].tensors
        weighted = {name: (share * t.astype(np.float64)).astype(np.float32) for name, t in delta.items()}
        sent = {name: part for name, part in update.parts.items() if name != LOSS_PART}
        parts = {**sent, MODEL_PART: Part(weighted), MIXTURE: Part({MIXTURE: np.array([share], np.float32)})}
        state = super().accumulate(state, replace(update, parts=parts, weight=1))
        own = FixedPointSum().add({LOSS_PART: np.array([loss], np.float32)}, 1)
        return replace(state, sums={**state.sums, _LOSS_OF + update.client_id: own})

    def server_step(self, state: StrategyState, means: Mapping[str, Tensors]) -> StrategyState:
        """One step of each player: the model by the weighted mean, the mixture by the losses."""
        answered = float(means[MIXTURE][MIXTURE][0])
        # With a mixture of 0 over all who answered, their updates say nothing of what it asks for.
        scale = 1 / answered if answered > 0 else 0.0
        model = add_scaled(state.model, means[MODEL_PART], scale)
        losses = {
            name.removeprefix(_LOSS_OF): float(values[LOSS_PART][0])
            for name, values in means.items()
            if name.startswith(_LOSS_OF)
        }
        return replace(state, model=model, slots={MIXTURE: self._mix(state.slots[MIXTURE], losses)})

    def _mix(self, known: Tensors, losses: Mapping[str, float]) -> Tensors:
        clients = sorted({*known, *losses})
        share_K = np.array([_share(known, client) for client in clients], np.float64)
        loss_K = np.array([losses.get(client, 0.0) for client in clients], np.float64)
        moved_K = onto_simplex(share_K / share_K.sum() + self.mixture_learning_rate * loss_K)
        return {client: np.array([share], np.float32) for client, share in zip(clients, moved_K, strict=True)}


def onto_simplex(values_K: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The nearest point [K] of values of at least 0 that add up to 1 (arXiv 1309.1541)."""
    falling_K = np.sort(values_K)[::-1]
    excess_K = np.cumsum(falling_K) - 1
    rank_K = np.arange(1, len(values_K) + 1)
    last = int(np.flatnonzero(falling_K - excess_K / rank_K > 0)[-1])
    nearest_K: npt.NDArray[np.float64] = np.maximum(values_K - excess_K[last] / rank_K[last], 0.0)
    return nearest_K


def _share(known: Tensors, client_id: str) -> float:
    """lambda of a client; a new one's is the mean of the others', and 1 where there are no others."""
    if client_id in known:
        return float(known[client_id][0])
    return 1 / len(known) if known else 1.0
