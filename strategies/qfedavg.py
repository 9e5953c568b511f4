"""q-FedAvg, Li et al. 2020, arXiv 1905.10497: clients with a larger loss count more.

Client k, with L = 1 / client_learning_rate and F_k its loss at the received model w:

    D_k = L * (w_k - w);    it sends w_k - w and F_k

Server:

    h_k = q * F_k^(q-1) * |D_k|^2 + L * F_k^q
    w  <- w + (sum of F_k^q * D_k) / (sum of h_k)

q = 0 is the unweighted mean of the updates; the larger q, the more even the losses. Clients count equally whatever
their number of examples, as in the paper, where a client's share decides how often it is asked. Losses of private
examples leave the device, so it is refused under DP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fl_core.parts import LOSS_PART, expected_tensors
from fl_core.tree import add_scaled, norm
from fl_core.types import ClientUpdate, Part, Tensors
from strategies.base import MODEL_PART, Strategy, StrategyState, Trait
from strategies.client import LocalOutcome
from strategies.losses import loss_of, loss_part

STEP_PART = "step"
"""The running sum of h_k."""
LEAST_LOSS = 1e-10
"""Added to every loss, so that a loss of 0 has a power below 0."""


@dataclass(frozen=True)
class QFedAvg(Strategy):
    """Reweighting by the q-th power of the loss.

    Args:
        q: how much fairness counts; 0 is none.
        client_learning_rate: that of ``clients.optimizer``; its inverse stands for the Lipschitz constant.
    """

    traits: ClassVar[frozenset[Trait]] = frozenset({"uses_losses"})

    q: float = 0.1
    client_learning_rate: float = 0.1

    def __post_init__(self) -> None:
        if not self.q >= 0:
            raise ValueError(f"strategy.args.q: expected at least 0, got {self.q}")
        if not self.client_learning_rate > 0:
            raise ValueError(f"strategy.args.client_learning_rate: expected above 0, got {self.client_learning_rate}")

    def conclude(self, outcome: LocalOutcome) -> tuple[Mapping[str, Tensors], Mapping[str, Tensors]]:
        """The parts w_k - w and F_k; a client remembers nothing."""
        return {MODEL_PART: outcome.delta, LOSS_PART: loss_part(outcome)}, {}

    def parts(self, model: Tensors) -> Mapping[str, Tensors]:
        """The change of the model, and the loss: one number, float32 [1]."""
        return {MODEL_PART: model, LOSS_PART: expected_tensors(LOSS_PART)}

    def accumulate(self, state: StrategyState, update: ClientUpdate) -> StrategyState:
        """Add F_k^q * D_k and h_k to the running sums, every client once.

        Raises:
            UpdateRejectedError: the loss is negative, or the sum would be too large.
        """
        loss, lipschitz = loss_of(update) + LEAST_LOSS, 1 / self.client_learning_rate
        delta = update.parts[MODEL_PART].tensors
        power = loss**self.q
        step = self.q * loss ** (self.q - 1) * (lipschitz * norm(delta)) ** 2 + lipschitz * power
        weighted = {name: (lipschitz * power * t.astype(np.float64)).astype(np.float32) for name, t in delta.items()}
        sent = {name: part for name, part in update.parts.items() if name != LOSS_PART}
        parts = {**sent, MODEL_PART: Part(weighted), STEP_PART: Part({STEP_PART: np.array([step], np.float32)})}
        return super().accumulate(state, replace(update, parts=parts, weight=1))

    def server_step(self, state: StrategyState, means: Mapping[str, Tensors]) -> StrategyState:
        """The model moved by the quotient of both means, which is that of the sums; no step where every loss is 0."""
        step = float(means[STEP_PART][STEP_PART][0])
        return replace(state, model=add_scaled(state.model, means[MODEL_PART], 1 / step if step > 0 else 0.0))
