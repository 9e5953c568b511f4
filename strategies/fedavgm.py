"""FedAvg with server momentum (FedAvgM), Hsu et al. 2019, arXiv 1909.06335.

Each round, with the mean of the updates:

    v <- momentum * v + mean_delta;    w <- w + server_learning_rate * v
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fl_core.tree import add_scaled, zeros_like
from fl_core.types import Tensors
from strategies.base import MODEL_PART, Strategy, StrategyState


@dataclass(frozen=True)
class FedAvgM(Strategy):
    """Momentum over the means of the rounds; the velocity is the slot ``velocity``."""

    momentum: float = 0.9
    server_learning_rate: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise ValueError(f"strategy.args.momentum: expected 0 to below 1, got {self.momentum}")
        if not self.server_learning_rate > 0:
            raise ValueError(f"strategy.args.server_learning_rate: expected above 0, got {self.server_learning_rate}")

    def init(self, model: Tensors) -> StrategyState:
        """The state before the first round, with a velocity of zero."""
        return StrategyState(model=model, slots={"velocity": zeros_like(model)})

    def server_step(self, state: StrategyState, means: Mapping[str, Tensors]) -> StrategyState:
        """Velocity and model after one step of heavy-ball momentum."""
        velocity = add_scaled(means[MODEL_PART], state.slots["velocity"], self.momentum)
        model = add_scaled(state.model, velocity, self.server_learning_rate)
        return replace(state, model=model, slots={"velocity": velocity})
