"""FedNova, Wang et al. 2020, arXiv 2007.07481: every client's update counts per step, however many steps it took.

Client k with n_k of the n examples sends its displacement divided by its own effective number of steps:

    d_k = (y_k - x) / a_k,    a_k = |a|_1: K_k for plain SGD, more with momentum

Server, where p_k = n_k / n:

    x <- x + (sum of p_k * a_k) * (sum of p_k * d_k)

With equal numbers of steps this is FedAvg. Number of steps follows from the number of examples (``local_epochs``), so
under DP it is not sent: there every client of a size class takes the same public number, and FedNova is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fl_core.tree import add_scaled
from fl_core.types import Tensors
from strategies.base import MODEL_PART, Strategy, StrategyState, Trait
from strategies.client import LocalOutcome

STEPS_PART = "steps"
"""The part that holds a_k, [1]."""


@dataclass(frozen=True)
class FedNova(Strategy):
    """Normalised averaging; its part ``delta`` is a displacement per effective step."""

    traits: ClassVar[frozenset[Trait]] = frozenset({"uses_step_counts"})

    server_learning_rate: float = 1.0

    def __post_init__(self) -> None:
        if not self.server_learning_rate > 0:
            raise ValueError(f"strategy.args.server_learning_rate: expected above 0, got {self.server_learning_rate}")

    def conclude(self, outcome: LocalOutcome) -> tuple[Mapping[str, Tensors], Mapping[str, Tensors]]:
        """The parts d_k and a_k; a client remembers nothing."""
        count = outcome.effective_steps
        per_step = {name: (tensor / count).astype(np.float32) for name, tensor in outcome.delta.items()}
        return {MODEL_PART: per_step, STEPS_PART: {STEPS_PART: np.array([count], np.float32)}}, {}

    def parts(self, model: Tensors) -> Mapping[str, Tensors]:
        """The displacement per step, and the effective number of steps: float32 [1]."""
        return {MODEL_PART: model, STEPS_PART: {STEPS_PART: np.zeros(1, np.float32)}}

    def server_step(self, state: StrategyState, means: Mapping[str, Tensors]) -> StrategyState:
        """The model moved by the mean number of steps, each as long as the mean step."""
        steps = float(means[STEPS_PART][STEPS_PART][0])
        return replace(state, model=add_scaled(state.model, means[MODEL_PART], self.server_learning_rate * steps))
