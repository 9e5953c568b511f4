"""Arrays as torch takes them: what numpy accepts beyond that is converted once, loss-free, or refused by name.

Views with strides of their own, the other byte order, Fortran order and masked arrays without masked values become
plain arrays in C order. An array that is one already is given back as it is, without a copy, and a read-only file in
memory stays on disk.
"""

from __future__ import annotations

import numpy as np

from fl_core.types import Array

NUMBERS = "fiub"
"""Kinds of dtype that ``astype(np.float32)`` makes inputs of."""


def input_problem(x: object) -> str:
    """Why an array is no inputs of examples, float32 [N, ...]; empty where it is."""
    if problem := _array_problem(x, "inputs"):
        return problem
    assert isinstance(x, np.ndarray)
    if x.dtype.newbyteorder("=") != np.float32:
        way = ", which .astype(np.float32) makes of them" if x.dtype.kind in NUMBERS else ""
        return f"expected inputs of dtype float32{way}, got {x.dtype}"
    if x.ndim < 2 or 0 in x.shape[1:]:
        return f"expected inputs of shape [N, ...] with at least one number an example, got shape {x.shape}"
    return ""


def target_problem(y: object) -> str:
    """Why an array is no targets of examples, [N, ...]; empty where it is. Their dtype is a task's business."""
    if problem := _array_problem(y, "targets"):
        return problem
    assert isinstance(y, np.ndarray)
    return "" if y.ndim else "expected targets of shape [N] or [N, ...], one for each example, got a single number"


def finite_problem(x: Array) -> str:
    """How many values of an array are no finite numbers; empty where all are."""
    finite = np.isfinite(x)
    return "" if finite.all() else f"expected finite inputs, got NaN or Inf in {_share(~finite)} values"


def plain(array: Array) -> Array:
    """An array in C order and this machine's byte order that can be written to; itself where it is that already."""
    if isinstance(array, np.ma.MaskedArray):
        array = array.data
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    array = np.ascontiguousarray(array)
    return array if array.flags.writeable else _writable(array)


def _array_problem(array: object, what: str) -> str:
    if not isinstance(array, np.ndarray):
        return f"expected {what} as a numpy array, got {type(array).__name__}"
    masked = np.ma.getmaskarray(array) if isinstance(array, np.ma.MaskedArray) else np.zeros(0, bool)
    if masked.any():
        return f"expected {what} without masked values, got {_share(masked)} masked; leave them out, or .filled(value)"
    return ""


def _share(mask: Array) -> str:
    return f"{int(np.count_nonzero(mask)):,} of {mask.size:,}"


def _writable(array: Array) -> Array:
    """A read-only array that may be written to; one of a file in memory is mapped again, so that its bytes stay there.

    Nothing is ever written: torch alone wants to be able to.
    """
    owner = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    if not isinstance(owner, np.memmap) or owner.filename is None:
        return array.copy()
    try:
        copied_on_write = np.memmap(owner.filename, np.uint8, "c", owner.offset, owner.nbytes)
    except OSError:  # it has been moved since
        return array.copy()
    return np.ndarray(array.shape, array.dtype, copied_on_write, array.ctypes.data - owner.ctypes.data, array.strides)
