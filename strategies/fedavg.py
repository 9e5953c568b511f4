"""Federated averaging (FedAvg), McMahan et al. 2017, arXiv 1602.05629.

    w <- w + server_learning_rate * sum_k n_k / n * (w_k - w)

With ``server_learning_rate`` 1 it is the paper's algorithm; another value is the generalised form of arXiv 2003.00295.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fl_core.tree import add_scaled
from fl_core.types import Tensors
from strategies.base import MODEL_PART, Strategy, StrategyState


@dataclass(frozen=True)
class FedAvg(Strategy):
    """The weighted mean of the clients' changes is added to the model."""

    server_learning_rate: float = 1.0

    def __post_init__(self) -> None:
        if not self.server_learning_rate > 0:
            raise ValueError(f"strategy.args.server_learning_rate: expected above 0, got {self.server_learning_rate}")

    def server_step(self, state: StrategyState, means: Mapping[str, Tensors]) -> StrategyState:
        """The model moved to w + server_learning_rate * mean_delta."""
        return replace(state, model=add_scaled(state.model, means[MODEL_PART], self.server_learning_rate))
