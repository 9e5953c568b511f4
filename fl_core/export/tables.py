"""Look-up tables for every exporter: elementwise functions and changes of the grid as integers to integers.

A table has at most 256 entries, one for each integer that a tensor can hold, and is filled with the float32 arithmetic
of the fake-quant forward: equal to it even where a value falls on a rounding tie, and integer in every runtime. How the
integers are stored (from 0, from -128) is the exporter's affair. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from fl_core.export.base import IntArray
from fl_core.quant.lowered import QParams
from fl_core.types import FloatArray

TABLE_FUNCTIONS: Mapping[str, Callable[[FloatArray], FloatArray]] = {
    "hard_swish": lambda x: x * np.clip(x + np.float32(3), 0, 6) / np.float32(6),
    "sigmoid": lambda x: np.float32(1) / (np.float32(1) + np.exp(-x)),
}
"""The functions of ``lut`` nodes, float32 to float32."""


def look_up_table(source: QParams, target: QParams, function: str | None) -> IntArray:
    """Integers on the grid of ``target`` for the integers ``qmin`` to ``qmax`` of ``source`` [qmax - qmin + 1].

    ``function`` is a name in ``TABLE_FUNCTIONS``, or None to change the grid alone. Results are rounded half to
    even and cut to the target's bounds.

    >>> coarse, fine = QParams(1.0, 0, -2, 2, "int8"), QParams(0.5, 10, 0, 255, "uint8")
    >>> look_up_table(coarse, fine, None).tolist()
    [6, 8, 10, 12, 14]
    >>> look_up_table(coarse, fine, "hard_swish").tolist()
    [9, 9, 10, 11, 13]
    """
    steps = np.arange(source.qmin, source.qmax + 1) - source.zero_point
    real = steps.astype(np.float32) * np.float32(source.scale)
    if function is not None:
        real = TABLE_FUNCTIONS[function](real)
    moved = np.rint(real * (np.float32(1) / np.float32(target.scale))).astype(np.int64) + target.zero_point
    table: IntArray = np.clip(moved, target.qmin, target.qmax).astype(np.int32)
    return table
