"""FedAsync, asynchronous federated optimisation (Xie et al. 2019, arXiv 1903.03934).

    client:   minimise the loss + rho / 2 * |w - w_received|^2
    server:   alpha_t = alpha * s(staleness);   w <- (1 - alpha_t) * w + alpha_t * w_k      on every reply

The mixing is with the client's trained weights, not with its change of an older model. The server keeps no older
model: an update's part ``trained`` holds w_k, and what is summed is s(staleness) * (w_k - w). With the buffer of one
update that is the paper's rule; several in one round mix in their weighted mean. Trained weights are received weights
plus a change that is private under DP, so they are as private as that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from fl_core.tree import add_scaled, subtract
from fl_core.types import ClientUpdate, Tensors
from strategies.base import MODEL_PART, Strategy, StrategyState, Trait
from strategies.client import ClientContext, LocalOutcome
from strategies.staleness import Staleness, check_staleness, staleness_weight, versions_behind, with_delta

if TYPE_CHECKING:
    import torch

TRAINED_PART = "trained"


@dataclass(frozen=True)
class FedAsync(Strategy):
    """Every accepted reply makes a version; older ones than ``max_staleness`` are rejected."""

    alpha: float = 0.6
    rho: float = 0.005
    staleness: Staleness = "polynomial"
    a: float = 0.5
    b: float = 4.0
    max_staleness: int | None = 20
    traits: ClassVar[frozenset[Trait]] = frozenset({"asynchronous"})

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise ValueError(f"strategy.args.alpha: expected above 0, at most 1, got {self.alpha}")
        if not self.rho >= 0:
            raise ValueError(f"strategy.args.rho: expected at least 0, got {self.rho}")
        check_staleness(self.staleness, self.a, self.b, self.max_staleness)

    def correction(self, params: Mapping[str, torch.Tensor], context: ClientContext) -> Mapping[str, torch.Tensor]:
        """rho * (w - w_received), the gradient of the proximal term."""
        return {name: self.rho * (param.detach() - context.anchor[name]) for name, param in params.items()}

    def conclude(self, outcome: LocalOutcome) -> tuple[Mapping[str, Tensors], Mapping[str, Tensors]]:
        """The one part ``trained``: the weights after local training; a client remembers nothing."""
        received = {name: outcome.received[name] for name in outcome.delta}
        return {TRAINED_PART: add_scaled(received, outcome.delta, 1.0)}, {}

    def parts(self, model: Tensors) -> Mapping[str, Tensors]:
        """The one part ``trained``, of the shapes of the model."""
        return {TRAINED_PART: model}

    def accumulate(self, state: StrategyState, update: ClientUpdate) -> StrategyState:
        """Add s(staleness) * (w_k - w) to the running sum.

        Raises:
            UpdateRejectedError: the update is too stale.
        """
        versions = versions_behind(state, update, self.max_staleness)
        scale = staleness_weight(self.staleness, versions, self.a, self.b)
        trained = update.parts[TRAINED_PART].tensors
        way = subtract(trained, {name: state.model[name] for name in trained})
        return super().accumulate(state, with_delta(update, way, scale, TRAINED_PART))

    def ready(self, state: StrategyState) -> bool:
        """True with the first update: every accepted reply ends a round."""
        return state.summed >= 1

    def server_step(self, state: StrategyState, means: Mapping[str, Tensors]) -> StrategyState:
        """The model moved to w + alpha * s * (w_k - w)."""
        return replace(state, model=add_scaled(state.model, means[MODEL_PART], self.alpha))
