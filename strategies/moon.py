"""MOON, Li et al. 2021, arXiv 2103.16257: local representations are drawn to the global model's, away from their past.

    loss(x, y) + mu * -log( e^(cos(z, z_global)/t) / (e^(cos(z, z_global)/t) + e^(cos(z, z_previous)/t)) )

z is what goes into the output layer: of the weights in training, of the received ones, and of this client's own after
its last accepted round. In its first round it has none and the term is left out; with previous = global, as in the
paper, its gradient would be zero. The term is one number an example, so under DP it is clipped with the loss, and the
previous weights are private already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fl_core.tree import add_scaled
from fl_core.types import Tensors
from strategies.base import MODEL_PART, Strategy, StrategyState
from strategies.client import WRAPPED, ClientContext, LocalOutcome, run_to
from strategies.layers import last_layer

if TYPE_CHECKING:
    import torch

    from fl_core.tasks.base import Task

PREVIOUS = "previous"
"""The slot of a client's memory that holds its weights after the last accepted round."""


@dataclass(frozen=True)
class Moon(Strategy):
    """FedAvg with the model-contrastive loss.

    Args:
        mu: weight of the contrastive term.
        temperature: t.
        layer: path of the layer whose input is the representation; the last one where none is named.
    """

    mu: float = 1.0
    temperature: float = 0.5
    layer: str | None = None

    def __post_init__(self) -> None:
        if not self.mu >= 0:
            raise ValueError(f"strategy.args.mu: expected at least 0, got {self.mu}")
        if not self.temperature > 0:
            raise ValueError(f"strategy.args.temperature: expected above 0, got {self.temperature}")

    def example_loss(
        self, task: Task, model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, context: ClientContext
    ) -> torch.Tensor:
        """Loss per example, shape [B]: the task's own and the contrastive term."""
        import torch.nn.functional as F

        previous, reference = context.memory.get(PREVIOUS), context.reference
        if previous is None or reference is None:
            return task.example_loss(model(x), y)
        names = [name.removeprefix(f"{WRAPPED}.") for name, param in model.named_parameters() if param.requires_grad]
        layer = self.layer or last_layer(names)
        output_BX, z_BD = run_to(model, layer, x)
        near_B, far_B = (
            F.cosine_similarity(z_BD, reference(weights, x, layer), dim=1) / self.temperature
            for weights in (context.anchor, previous)
        )
        # -log(e^near / (e^near + e^far)) = log(1 + e^(far - near))
        return task.example_loss(output_BX, y) + self.mu * F.softplus(far_B - near_B)

    def conclude(self, outcome: LocalOutcome) -> tuple[Mapping[str, Tensors], Mapping[str, Tensors]]:
        """The change of the weights is sent, the trained weights are remembered."""
        return {MODEL_PART: outcome.delta}, {PREVIOUS: add_scaled(outcome.received, outcome.delta, 1.0)}

    def server_step(self, state: StrategyState, means: Mapping[str, Tensors]) -> StrategyState:
        """The model moved to w + mean_delta, as in FedAvg."""
        return replace(state, model=add_scaled(state.model, means[MODEL_PART], 1.0))
