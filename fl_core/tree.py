"""Arithmetic on named tensors, and sums whose bits do not depend on the order of what is added.

A mean over clients is a sum in int64 fixed point: integer addition is associative, so any order of replies and any
number of workers gives the same bits. Headroom is checked before anything is added.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fl_core.errors import UpdateRejectedError
from fl_core.types import FloatArray, Tensors

FRACTION_BITS = 30
"""A value is summed in steps of 2**-30: about 1e-9."""
HEADROOM_BITS = 62
"""No sum may grow beyond 2**62."""


def subtract(left: Tensors, right: Tensors) -> dict[str, FloatArray]:
    """left - right, tensor by tensor, in float32."""
    return {name: (left[name] - right[name]).astype(np.float32) for name in sorted(left)}


def add_scaled(left: Tensors, right: Tensors, scale: float) -> dict[str, FloatArray]:
    """left + scale * right, computed in float64 and rounded once to float32."""
    return {
        name: (left[name].astype(np.float64) + scale * right[name].astype(np.float64)).astype(np.float32)
        for name in sorted(left)
    }


def zeros_like(tensors: Tensors) -> dict[str, FloatArray]:
    """Zeros with the names, shapes and types of ``tensors``."""
    return {name: np.zeros_like(tensors[name]) for name in sorted(tensors)}


def frozen(tensors: Tensors) -> dict[str, FloatArray]:
    """The tensors in a mapping of their own, where nobody who holds one can write to it."""
    return {name: _frozen(tensor) for name, tensor in tensors.items()}


def _frozen(tensor: FloatArray) -> FloatArray:
    array = np.asarray(tensor)
    # What a view looks into can be written to by others.
    own = array if array.base is None else array.copy()
    own.setflags(write=False)
    return own


def norm(tensors: Tensors) -> float:
    """Euclidean norm over all tensors together, in float64."""
    return float(np.sqrt(sum(float(np.square(t, dtype=np.float64).sum()) for t in tensors.values())))


def count_bytes(tensors: Tensors) -> int:
    """Bytes that the values of ``tensors`` take together, without names or headers."""
    return sum(tensor.nbytes for tensor in tensors.values())


def digest(tensors: Tensors) -> str:
    """SHA-256 over names, shapes, dtypes and bits, in hex: equal only for bit-identical tensors."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        sha.update(f"{name}:{tensor.dtype.str}:{tensor.shape}:".encode())
        sha.update(tensor.tobytes())
    return sha.hexdigest()


@dataclass(frozen=True)
class FixedPointSum:
    """A running sum of weighted tensors in int64 steps of 2**-30. ``weight`` is the sum of the integer weights."""

    totals: Mapping[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    weight: int = 0
    count: int = 0
    largest: float = 0.0
    """Upper bound of the magnitude of any total, in steps."""

    def add(self, tensors: Tensors, weight: int) -> FixedPointSum:
        """The sum with ``weight * tensors`` added.

        Raises:
            UpdateRejectedError: the total could leave int64.
        """
        steps = {name: np.rint(t.astype(np.float64) * 2.0**FRACTION_BITS) for name, t in tensors.items()}
        peak = max((float(np.abs(step).max(initial=0.0)) for step in steps.values()), default=0.0)
        largest = self.largest + peak * weight
        if not largest < 2.0**HEADROOM_BITS:
            raise UpdateRejectedError(
                f"values too large to be summed: expected less than {2.0 ** (HEADROOM_BITS - FRACTION_BITS):.3g} "
                f"in total, got {largest * 2.0**-FRACTION_BITS:.3g}"
            )
        totals = {
            name: self.totals[name] + step.astype(np.int64) * weight if self.count else step.astype(np.int64) * weight
            for name, step in steps.items()
        }
        return FixedPointSum(totals, self.weight + weight, self.count + 1, largest)

    def mean(self) -> dict[str, FloatArray]:
        """The weighted mean in float32. Must not be called before anything of weight above 0 was added."""
        divisor = float(self.weight) * 2.0**FRACTION_BITS
        return {name: (total / divisor).astype(np.float32) for name, total in sorted(self.totals.items())}
