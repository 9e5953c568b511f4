"""Classification: one of several classes; cross entropy, scored by accuracy."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from fl_core.errors import DataError
from fl_core.tasks.base import Task
from fl_core.types import Array


class Classification(Task):
    """Targets are class indices, int64 [B], from 0."""

    metric_name = "accuracy"

    def example_loss(self, output_BX: torch.Tensor, target_B: torch.Tensor) -> torch.Tensor:
        """Cross entropy of the logits [B, classes]."""
        return F.cross_entropy(output_BX, target_B, reduction="none")

    def example_score(self, output_BX: Array, target_B: Array) -> Array:
        """1 where the largest logit is the right one, else 0."""
        right_B: Array = output_BX.argmax(axis=1) == target_B
        return right_B.astype(np.float64)

    def check_targets(self, owner: str, target_B: Array, outputs: int | None) -> None:
        """Whole numbers, one an example, each a class that there is."""
        if target_B.ndim != 1 or target_B.dtype.kind not in "iu":
            raise DataError(
                f"{owner}: classification expects one class index an example, got {target_B.dtype} {target_B.shape}"
            )
        low, high = int(target_B.min()), int(target_B.max())
        if low < 0 or (outputs is not None and high >= outputs):
            raise DataError(f"{owner}: expected classes 0 to {(outputs or 0) - 1}, got {low} to {high}")

    def targets(self, target_B: Array) -> torch.Tensor:
        """int64, as cross entropy wants it."""
        return torch.from_numpy(target_B.astype(np.int64))

    def neutral_targets(self, x_BX: Array, outputs: int) -> Array:
        """The first class for each."""
        return np.zeros(len(x_BX), np.int64)
