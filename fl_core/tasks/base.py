"""What is learned: a loss per example, a metric, and the form that a target must have.

A task is a value: it holds no weights and no data. The loss is per example, for DP-SGD clips per example;
a task that looks at a whole batch cannot be trained privately.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import torch

from fl_core.types import Array


class Task(ABC):
    """A kind of learning. ``metric_name`` says what ``example_score`` measures; higher is always better.

    >>> import numpy as np
    >>> import torch
    >>> from fl_core.errors import DataError
    >>> from fl_core.tasks.base import Task
    >>> class Counting(Task):
    ...     metric_name = "share within one"
    ...
    ...     def example_loss(self, output_BX, target_B):
    ...         return torch.nn.functional.poisson_nll_loss(output_BX[:, 0], target_B, reduction="none")
    ...
    ...     def example_score(self, output_BX, target_B):
    ...         return (np.abs(np.exp(output_BX[:, 0]) - target_B) <= 1).astype(np.float64)
    ...
    ...     def check_targets(self, owner, target_B, outputs):
    ...         if target_B.min() < 0:
    ...             raise DataError(f"{owner}: expected counts of at least 0, got {target_B.min()}")
    >>> task, counts = Counting(), np.array([1.0, 2.0, 4.0], np.float32)
    >>> task.example_loss(torch.zeros(3, 1), task.targets(counts)).tolist()
    [1.0, 1.0, 1.0]
    >>> task.example_score(np.zeros((3, 1)), counts).tolist()
    [1.0, 1.0, 0.0]
    """

    metric_name: ClassVar[str]

    @abstractmethod
    def example_loss(self, output_BX: torch.Tensor, target_B: torch.Tensor) -> torch.Tensor:
        """Loss of every example on its own: shape [B]."""

    @abstractmethod
    def example_score(self, output_BX: Array, target_B: Array) -> Array:
        """Score of every example, float64 [B], whose mean is the metric (accuracy: 1 where the answer is right)."""

    @abstractmethod
    def check_targets(self, owner: str, target_B: Array, outputs: int | None) -> None:
        """Raise DataError when the targets of ``owner`` do not have the form this task needs."""

    def wanted_outputs(self, target_B: Array) -> Array | None:
        """What the model's outputs would have to be for these targets, so that a range can be checked to hold them.

        None where outputs are no such values, as logits are.
        """
        return None

    def targets(self, target_B: Array) -> torch.Tensor:
        """The targets as the loss wants them."""
        return torch.from_numpy(np.ascontiguousarray(target_B))

    def neutral_targets(self, x_BX: Array, outputs: int) -> Array | None:
        """Valid targets for the inputs ``x_BX``, for a trial where no example is at hand; None: only data has them."""
        return None
