"""Regression: numbers for each example; half the squared error, scored by the negative absolute error."""

from __future__ import annotations

import numpy as np
import torch

from fl_core.errors import DataError
from fl_core.tasks.base import Task
from fl_core.types import Array


class Regression(Task):
    """Targets are float32 [B] or [B, outputs]. The score is minus the mean absolute error: 0 is perfect."""

    metric_name = "negative mean absolute error"

    def example_loss(self, output_BX: torch.Tensor, target_B: torch.Tensor) -> torch.Tensor:
        """Half the squared error, averaged over the outputs of an example."""
        error_BX = output_BX.flatten(1) - target_B.reshape(len(target_B), -1)
        return 0.5 * error_BX.square().mean(dim=1)

    def example_score(self, output_BX: Array, target_B: Array) -> Array:
        """Minus the mean absolute error of each example."""
        count = len(target_B)
        error_BX = output_BX.reshape(count, -1).astype(np.float64) - target_B.reshape(count, -1)
        score_B: Array = -np.abs(error_BX).mean(axis=1)
        return score_B

    def check_targets(self, owner: str, target_B: Array, outputs: int | None) -> None:
        """Finite numbers, as many an example as the model has outputs."""
        if target_B.dtype.kind != "f" or not np.isfinite(target_B).all():
            raise DataError(f"{owner}: regression expects finite float targets, got {target_B.dtype}")
        per_example = target_B[0].size
        if outputs is not None and per_example != outputs:
            raise DataError(f"{owner}: expected {outputs} numbers an example, got {per_example}")

    def targets(self, target_B: Array) -> torch.Tensor:
        """float32."""
        return torch.from_numpy(target_B.astype(np.float32))

    def wanted_outputs(self, target_B: Array) -> Array | None:
        """The targets themselves."""
        return target_B

    def neutral_targets(self, x_BX: Array, outputs: int) -> Array:
        """Zeros, one an output."""
        return np.zeros((len(x_BX), outputs), np.float32)
