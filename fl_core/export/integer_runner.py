"""A runner over the independent integer evaluator: what an artefact would answer that cannot be run here."""

from __future__ import annotations

import numpy as np

from fl_core.errors import ExportError
from fl_core.export.base import IntArray
from fl_core.quant.integer import integer_forward
from fl_core.quant.lowered import Lowered
from fl_core.types import FloatArray


class IntegerRunner:
    """Answers with the arithmetic that ``Lowered`` defines, in numpy; fulfils ``Runner``."""

    def __init__(self, lowered: Lowered) -> None:
        self.output_scale = float(np.float32(lowered.tensors[lowered.output].scale))
        self._lowered = lowered

    def run(self, x_BX: FloatArray) -> FloatArray:
        return self.integers(x_BX).astype(np.float32) * np.float32(self.output_scale)

    def integers(self, x_BX: FloatArray) -> IntArray:
        expected = self._lowered.input_shape
        if x_BX.shape[1:] != expected or len(x_BX) == 0:
            raise ExportError(f"evaluator: expected examples of shape [N, {expected}], got {x_BX.shape}")
        stored_BK = integer_forward(self._lowered, x_BX)[self._lowered.output]
        steps_BK: IntArray = (stored_BK - self._lowered.tensors[self._lowered.output].zero_point).astype(np.int32)
        return steps_BK
