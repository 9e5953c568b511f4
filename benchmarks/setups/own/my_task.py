"""Classification with smoothed labels, scored by the share of right answers."""

import numpy as np
from torch.nn import functional as F

from fl_core.errors import DataError
from fl_core.tasks.base import Task


class Smoothed(Task):
    metric_name = "accuracy"

    def example_loss(self, output_BX, target_B):
        return F.cross_entropy(output_BX, target_B, reduction="none", label_smoothing=0.1)

    def example_score(self, output_BX, target_B):
        right_B = output_BX.argmax(axis=1) == target_B
        return right_B.astype(np.float64)

    def check_targets(self, owner, target_B, outputs):
        if target_B.ndim != 1 or target_B.dtype.kind not in "iu":
            raise DataError(f"{owner}: expected one class index an example, got {target_B.dtype} {target_B.shape}")
        if target_B.min() < 0 or (outputs is not None and target_B.max() >= outputs):
            raise DataError(f"{owner}: expected classes 0 to {outputs - 1}, got {target_B.min()} to {target_B.max()}")
