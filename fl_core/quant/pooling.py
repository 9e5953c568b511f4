"""How pooling layers and functions are read: one kind of window, with everything refused that integers do not do."""

from __future__ import annotations

from typing import Any

from fl_core.quant.float_ops import FloatOp, TracedCall, as_tuple, operation


def _pool(call: TracedCall, kind: str, kernel: Any, stride: Any, padding: Any) -> FloatOp:
    rank = len(call.shape_in()) - 2
    kernel = as_tuple(kernel, rank)
    stride = kernel if stride is None or stride == [] else as_tuple(stride, rank)
    return operation(kind, kernel=kernel, stride=stride, padding=as_tuple(padding, rank))


def max_pool(call: TracedCall) -> FloatOp:
    """Max pooling over windows."""
    pool: Any = call.module
    if pool is None:
        given = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
        defaults = (None, None, 0, 1, False, False)
        kernel, stride, padding, dilation, ceil, indices = (
            call.argument(at, name, default) for at, (name, default) in enumerate(zip(given, defaults, strict=True), 1)
        )
    else:
        kernel, stride, padding, dilation = pool.kernel_size, pool.stride, pool.padding, pool.dilation
        ceil, indices = pool.ceil_mode, pool.return_indices
    if ceil or indices or set(as_tuple(dilation, 1)) != {1}:
        raise call.refuse("expected max pooling without dilation, ceil_mode and return_indices")
    return _pool(call, "max_pool", kernel, stride, padding)


def avg_pool(call: TracedCall) -> FloatOp:
    """Average pooling over windows, padding counted."""
    pool: Any = call.module
    if pool is None:
        given = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
        defaults = (None, None, 0, False, True, None)
        kernel, stride, padding, ceil, count, divisor = (
            call.argument(at, name, default) for at, (name, default) in enumerate(zip(given, defaults, strict=True), 1)
        )
    else:
        kernel, stride, padding = pool.kernel_size, pool.stride, pool.padding
        ceil, count, divisor = pool.ceil_mode, pool.count_include_pad, getattr(pool, "divisor_override", None)
    padded = set(as_tuple(padding, 1)) != {0}
    if ceil or divisor is not None or (padded and not count):
        raise call.refuse("expected average pooling that counts its padding, without ceil_mode and divisor_override")
    return _pool(call, "avg_pool", kernel, stride, padding)


def _adaptive(call: TracedCall, kind: str) -> FloatOp:
    pool: Any = call.module
    size = call.argument(1, "output_size") if pool is None else pool.output_size
    sides = call.shape_in()[2:]
    wanted = tuple(size) if isinstance(size, (tuple, list)) else (size,) * len(sides)
    wanted = tuple(side if want is None else want for side, want in zip(sides, wanted, strict=True))
    if any(side % want for side, want in zip(sides, wanted, strict=True)):
        raise call.refuse(f"expected an output size that divides the input's {list(sides)}, got {list(wanted)}")
    kernel = tuple(side // want for side, want in zip(sides, wanted, strict=True))
    return _pool(call, kind, kernel, kernel, 0)


def adaptive_avg(call: TracedCall) -> FloatOp:
    """Average pooling to a size that divides the input's."""
    return _adaptive(call, "avg_pool")


def adaptive_max(call: TracedCall) -> FloatOp:
    """Max pooling to a size that divides the input's."""
    if getattr(call.module, "return_indices", False) or call.argument(2, "return_indices", False):
        raise call.refuse("expected max pooling without return_indices")
    return _adaptive(call, "max_pool")


def mean(call: TracedCall) -> FloatOp:
    """The mean over all spatial axes is an average pooling as large as the input; keepdim off flattens as well."""
    shape = call.shape_in()
    axes = {axis % len(shape) for axis in as_tuple(call.argument(1, "dim", ()), 1)}
    if axes != set(range(2, len(shape))):
        raise call.refuse("expected a mean over all axes after the channels")
    pool = _pool(call, "avg_pool", shape[2:], None, 0)
    pool.attrs["flatten"] = not call.argument(2, "keepdim", False)
    return pool
