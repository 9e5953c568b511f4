"""FedAdam, Reddi et al. 2020, arXiv 2003.00295.

    m <- beta_1 * m + (1 - beta_1) * Delta
    v <- beta_2 * v + (1 - beta_2) * Delta^2
    x <- x + server_learning_rate * m / (sqrt(v) + tau)

The server's learning rate of a weight follows how much it moved lately. The paper's beta_1, beta_2 and tau are the
defaults; like the paper's algorithm this one does not correct the bias of the first rounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fl_core.types import Tensors
from strategies.adaptive import Moment, adaptive_state, adaptive_step, check_adaptive
from strategies.base import Strategy, StrategyState


@dataclass(frozen=True)
class FedAdam(Strategy):
    """Adam at the server; state in the slots ``first_moment`` (m) and ``second_moment`` (v), one number a weight."""

    server_learning_rate: float = 0.1
    beta_1: float = 0.9
    beta_2: float = 0.99
    tau: float = 1e-3

    def __post_init__(self) -> None:
        check_adaptive(self.server_learning_rate, self.tau, beta_1=self.beta_1, beta_2=self.beta_2)

    def init(self, model: Tensors) -> StrategyState:
        """The moments before the first round: m = 0, v = tau^2."""
        return adaptive_state(model, self.tau)

    def server_step(self, state: StrategyState, means: Mapping[str, Tensors]) -> StrategyState:
        """Both moments, then the model, moved by one round of FedAdam."""

        def second_moment(v: Moment, squared: Moment) -> Moment:
            return self.beta_2 * v + (1 - self.beta_2) * squared

        return adaptive_step(state, means, second_moment, self.server_learning_rate, self.beta_1, self.tau)
