"""FedDyn, Acar et al. 2021, arXiv 2111.04263: a linear term that makes local optima agree with the common one.

Client k minimises its loss plus a term that changes with every round, from the received weights x:

    loss_k(w) - <g_k, w> + alpha/2 * |w - x|^2          so gradient <- gradient - g_k + alpha * (w - x)
    g_k <- g_k - alpha * (w_k - x)                      from 0

Server, over the S of N clients that answered:

    h <- h - alpha * S/N * mean(w_k - x);    x <- x + mean(w_k - x) - h / alpha

- The paper minimises exactly; here the clients' SGD does what it can, with its own momentum and schedule, and g_k is
  the gradient at the local optimum as far as it is reached. Where the clients come the share s of the way to it, a
  round shrinks errors to sqrt(1 - s) of what they were, at best: with few local steps it swings, and needs more of
  them or a larger alpha.
- Weights: means are weighted by example counts, and the fixed point is that of the losses so weighted. Where S < N and
  the counts differ this holds in expectation alone.
- Privacy: g_k follows from updates that are private already and never leaves; it costs nothing. But it sums up the
  noise of all rounds, so expect little of it there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fl_core.tree import add_scaled, zeros_like
from fl_core.types import Tensors
from strategies.base import MODEL_PART, Strategy, StrategyState
from strategies.client import ClientContext, LocalOutcome
from strategies.participation import check_number_of_clients, share_of_all

if TYPE_CHECKING:
    import torch

GRADIENT = "gradient"
"""The slot of a client's memory that holds g_k."""
DRIFT = "drift"
"""The server's slot that holds h."""


@dataclass(frozen=True)
class FedDyn(Strategy):
    """Dynamic regularisation; an update is as large as with FedAvg.

    Args:
        alpha: weight of the proximal term; the paper takes 0.001 to 0.1.
        clients: N, how many clients there are; None where every round asks all of them.
    """

    alpha: float = 0.01
    clients: int | None = None

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise ValueError(f"strategy.args.alpha: expected above 0, got {self.alpha}")
        check_number_of_clients(self.clients)

    def correction(self, params: Mapping[str, torch.Tensor], context: ClientContext) -> Mapping[str, torch.Tensor]:
        """alpha * (w - x) - g_k, by parameter name."""
        pull = {name: self.alpha * (param.detach() - context.anchor[name]) for name, param in params.items()}
        own = context.memory.get(GRADIENT)
        return pull if own is None else {name: term - own[name] for name, term in pull.items()}

    def conclude(self, outcome: LocalOutcome) -> tuple[Mapping[str, Tensors], Mapping[str, Tensors]]:
        """The change of the weights is sent, g_k is remembered."""
        old = outcome.memory.get(GRADIENT) or zeros_like(outcome.delta)
        return {MODEL_PART: outcome.delta}, {GRADIENT: add_scaled(old, outcome.delta, -self.alpha)}

    def init(self, model: Tensors) -> StrategyState:
        """The state before the first round, with h = 0."""
        return StrategyState(model=model, slots={DRIFT: zeros_like(model)})

    def server_step(self, state: StrategyState, means: Mapping[str, Tensors]) -> StrategyState:
        """The model and h after the round: h moves first, then the model with the new h."""
        share = share_of_all(state, self.clients)
        drift = add_scaled(state.slots[DRIFT], means[MODEL_PART], -self.alpha * share)
        mean = add_scaled(state.model, means[MODEL_PART], 1.0)
        return replace(state, model=add_scaled(mean, drift, -1.0 / self.alpha), slots={DRIFT: drift})
