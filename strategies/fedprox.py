"""FedProx, Li et al. 2020, arXiv 1812.06127: FedAvg whose clients are pulled back to the global model.

    gradient <- gradient + mu * (w - w_global)

The pull is the gradient of mu/2 * |w - w_global|^2. It depends on no example, so it is added after clip and noise,
where it costs no privacy; inside the loss, per-example gradients would not see it at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fl_core.tree import add_scaled
from fl_core.types import Tensors
from strategies.base import MODEL_PART, Strategy, StrategyState
from strategies.client import ClientContext

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class FedProx(Strategy):
    """FedAvg with a proximal term of weight ``mu``."""

    mu: float = 0.01

    def __post_init__(self) -> None:
        if not self.mu >= 0:
            raise ValueError(f"strategy.args.mu: expected at least 0, got {self.mu}")

    def correction(self, params: Mapping[str, torch.Tensor], context: ClientContext) -> Mapping[str, torch.Tensor]:
        """mu * (w - w_global), by parameter name."""
        return {name: self.mu * (param.detach() - context.anchor[name]) for name, param in params.items()}

    def server_step(self, state: StrategyState, means: Mapping[str, Tensors]) -> StrategyState:
        """The model moved to w + mean_delta, as in FedAvg."""
        return replace(state, model=add_scaled(state.model, means[MODEL_PART], 1.0))
