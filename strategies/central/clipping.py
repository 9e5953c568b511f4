"""One client's update, bounded: all its parts together have at most the clip norm, to the last bit of the sum.

Rounding can lengthen a vector: to float32, and to the steps of the fixed-point sum. The bound is lowered by as much,
so what one client adds to the exact sum is at most ``clip_norm`` long, whatever it sent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from fl_core.errors import PrivacyError
from fl_core.tree import FRACTION_BITS, FixedPointSum, norm
from fl_core.types import FloatArray, Tensors

_FLOAT32_SLACK = 1e-6
"""Relative; a value moves by 6e-8 of itself when it is rounded to float32."""

Parts = Mapping[str, Tensors]
Exact = dict[str, npt.NDArray[np.float64]]


def joint_norm(parts: Parts) -> float:
    """Euclidean norm of an update over all its parts together."""
    return math.hypot(*(norm(tensors) for tensors in parts.values()))


def bound_of(clip_norm: float, values: int) -> float:
    """The norm to which ``values`` numbers are scaled, so that the rounded ones keep to ``clip_norm``.

    Raises:
        PrivacyError: rounding alone could pass the clip norm.
    """
    bound = clip_norm * (1 - _FLOAT32_SLACK) - math.sqrt(values) * 2.0 ** -(FRACTION_BITS + 1)
    if not bound > 0:
        raise PrivacyError(f"clip_norm: expected more than the rounding of {values} summed values, got {clip_norm:g}")
    return bound


def clip_jointly(parts: Parts, clip_norm: float) -> dict[str, dict[str, FloatArray]]:
    """The parts, scaled down together where they are longer than the clip norm.

    Raises:
        PrivacyError: the clip norm is too small for so many values.
    """
    bound = bound_of(clip_norm, sum(tensor.size for tensors in parts.values() for tensor in tensors.values()))
    length = joint_norm(parts)
    factor = min(1.0, bound / length) if length > 0 else 1.0
    return {
        part: {name: (factor * tensor.astype(np.float64)).astype(np.float32) for name, tensor in tensors.items()}
        for part, tensors in parts.items()
    }


def exact_sum(total: FixedPointSum, shapes: Tensors) -> Exact:
    """The running sum as float64, by name; zeros where nothing was added."""
    if total.count == 0:
        return {name: np.zeros(tensor.shape) for name, tensor in shapes.items()}
    return {name: total.totals[name].astype(np.float64) * 2.0**-FRACTION_BITS for name in shapes}
