"""SCAFFOLD, Karimireddy et al. 2020, arXiv 1910.06378: control variates that take the drift out of local steps.

Client k, with the server's control c and its own c_k, K steps of learning rate lr:

    y <- y - lr * (gradient(y) - c_k + c)
    c_k' = c_k - c + (x - y) / (K * lr)          (option II)

Server, over the S of N clients that answered:

    x <- x + server_learning_rate * mean(y - x);    c <- c + S/N * mean(c_k' - c_k)

- Momentum: option II asks for the mean of the gradients of a client's steps. With momentum their sum in x - y is a
  weighted one, so K is replaced by the sum of those weights and c_k' is a weighted mean of gradients again.
- Schedule: lr is the one of the round; controls are gradients, so they carry over to another learning rate.
- Weights: both means are weighted by example counts, so c stays the mean of c_k in those weights, and the corrections
  cancel in the mean update. Where S < N and the counts differ this holds in expectation alone.
- Privacy: c_k' follows from the update, which is private already, from c, and from earlier such values. Sending it is
  post-processing and costs nothing; but it has the noise of one update in it, which correction adds to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fl_core.tree import add_scaled, subtract, zeros_like
from fl_core.types import Tensors
from strategies.base import MODEL_PART, Strategy, StrategyState
from strategies.client import ClientContext, LocalOutcome
from strategies.participation import check_number_of_clients, share_of_all

if TYPE_CHECKING:
    import torch

CONTROL = "control"
"""Name of the control variate wherever it stands: the server's slot, the broadcast, the part, the client's memory."""


@dataclass(frozen=True)
class Scaffold(Strategy):
    """Control variates on both sides; updates and broadcasts are twice as large as with FedAvg.

    Args:
        server_learning_rate: factor of the mean update.
        clients: N, how many clients there are; None where every round asks all of them.
    """

    server_learning_rate: float = 1.0
    clients: int | None = None

    def __post_init__(self) -> None:
        if not self.server_learning_rate > 0:
            raise ValueError(f"strategy.args.server_learning_rate: expected above 0, got {self.server_learning_rate}")
        check_number_of_clients(self.clients)

    def correction(self, params: Mapping[str, torch.Tensor], context: ClientContext) -> Mapping[str, torch.Tensor]:
        """c - c_k, by parameter name; a client's first c_k is zero."""
        common, own = context.broadcast[CONTROL], context.memory.get(CONTROL)
        return {name: common[name] if own is None else common[name] - own[name] for name in params}

    def conclude(self, outcome: LocalOutcome) -> tuple[Mapping[str, Tensors], Mapping[str, Tensors]]:
        """The parts y - x and c_k' - c_k; c_k' is remembered."""
        old = outcome.memory.get(CONTROL) or zeros_like(outcome.delta)
        # -(y - x) / (K * lr): the mean of all that was subtracted, corrections included
        scale = -1.0 / (outcome.effective_steps * outcome.learning_rate)
        new = add_scaled(subtract(old, outcome.broadcast[CONTROL]), outcome.delta, scale)
        return {MODEL_PART: outcome.delta, CONTROL: subtract(new, old)}, {CONTROL: new}

    def init(self, model: Tensors) -> StrategyState:
        """The state before the first round, with a control of zero."""
        return StrategyState(model=model, slots={CONTROL: zeros_like(model)})

    def broadcast(self, state: StrategyState) -> Mapping[str, Tensors]:
        """The server's control, in the slot ``control``."""
        return {CONTROL: state.slots[CONTROL]}

    def parts(self, model: Tensors) -> Mapping[str, Tensors]:
        """The change of the model, and the change of the control: both of the model's shapes."""
        return {MODEL_PART: model, CONTROL: model}

    def server_step(self, state: StrategyState, means: Mapping[str, Tensors]) -> StrategyState:
        """Model and control moved by their means."""
        share = share_of_all(state, self.clients)
        return replace(
            state,
            model=add_scaled(state.model, means[MODEL_PART], self.server_learning_rate),
            slots={CONTROL: add_scaled(state.slots[CONTROL], means[CONTROL], share)},
        )
