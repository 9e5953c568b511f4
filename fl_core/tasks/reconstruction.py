"""Reconstruction: the input itself is the target, as for an autoencoder; scored by the negative squared error."""

from __future__ import annotations

import numpy as np
import torch

from fl_core.errors import DataError
from fl_core.tasks.base import Task
from fl_core.types import Array


class Reconstruction(Task):
    """Targets are the inputs, float32 [B, ...]. The score is minus the mean squared error: 0 is perfect."""

    metric_name = "negative mean squared error"

    def example_loss(self, output_BX: torch.Tensor, target_B: torch.Tensor) -> torch.Tensor:
        """Mean squared error over the values of an example."""
        return (output_BX.flatten(1) - target_B.flatten(1)).square().mean(dim=1)

    def example_score(self, output_BX: Array, target_B: Array) -> Array:
        """Minus the mean squared error of each example."""
        count = len(target_B)
        error_BX = output_BX.reshape(count, -1).astype(np.float64) - target_B.reshape(count, -1)
        score_B: Array = -np.square(error_BX).mean(axis=1)
        return score_B

    def check_targets(self, owner: str, target_B: Array, outputs: int | None) -> None:
        """Float values, as many an example as the model gives."""
        if target_B.dtype != np.float32:
            raise DataError(f"{owner}: reconstruction expects float32 targets like its inputs, got {target_B.dtype}")
        if outputs is not None and target_B[0].size != outputs:
            raise DataError(f"{owner}: expected {outputs} values an example, got {target_B[0].size}")

    def wanted_outputs(self, target_B: Array) -> Array | None:
        """The targets themselves."""
        return target_B

    def neutral_targets(self, x_BX: Array, outputs: int) -> Array:
        """The inputs themselves."""
        return x_BX
