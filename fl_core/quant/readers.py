"""How each torch layer, function and tensor method is read as an operation that can become integer."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

from fl_core.quant.float_ops import FloatOp, Reader, TracedCall, clamp_of


def _op(kind: str, **attrs: Any) -> FloatOp:
    return FloatOp("", kind, [], attrs=attrs)


def _tuple(value: Any, rank: int) -> tuple[int, ...]:
    return tuple(int(v) for v in value) if isinstance(value, (tuple, list)) else (int(value),) * rank


def _conv(call: TracedCall) -> FloatOp:
    conv = cast("nn.Conv1d | nn.Conv2d", call.module)
    if conv.padding_mode != "zeros":
        raise call.refuse(f"padding_mode must be zeros, got {conv.padding_mode}")
    if len(call.shape_in()) != len(conv.kernel_size) + 2:
        raise call.refuse(f"expected an input of {len(conv.kernel_size) + 2} axes, got {len(call.shape_in())}")
    padding: tuple[int, ...]
    if conv.padding == "same":
        total = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        if any(t % 2 for t in total):
            raise call.refuse("padding same of an even kernel is not symmetric; use an odd kernel")
        padding = tuple(t // 2 for t in total)
    else:
        padding = (0,) * len(conv.kernel_size) if conv.padding == "valid" else _tuple(conv.padding, 1)
    return _op("conv", stride=conv.stride, padding=padding, dilation=conv.dilation, groups=conv.groups)


def _linear(call: TracedCall) -> FloatOp:
    if len(call.shape_in()) != 2:
        raise call.refuse(f"expected an input [B, features], got {len(call.shape_in())} axes; use Flatten before it")
    return _op("linear")


def _batch_norm(call: TracedCall) -> FloatOp:
    return _op("batch_norm")


def _clamp(low: float | None, high: float | None, call: TracedCall) -> FloatOp:
    op = _op("clamp")
    op.clamp = clamp_of(low, high, call)
    return op


def _relu(call: TracedCall) -> FloatOp:
    return _clamp(0.0, None, call)


def _relu6(call: TracedCall) -> FloatOp:
    return _clamp(0.0, 6.0, call)


def _hardtanh_module(call: TracedCall) -> FloatOp:
    module = cast(nn.Hardtanh, call.module)
    return _clamp(module.min_val, module.max_val, call)


def _hardtanh(call: TracedCall) -> FloatOp:
    return _clamp(call.argument(1, "min_val", -1.0), call.argument(2, "max_val", 1.0), call)


def _clamp_call(call: TracedCall) -> FloatOp:
    return _clamp(call.argument(1, "min"), call.argument(2, "max"), call)


def _hard_swish(call: TracedCall) -> FloatOp:
    return _op("lut", function="hard_swish")


def _sigmoid(call: TracedCall) -> FloatOp:
    return _op("lut", function="sigmoid")


def _alias(call: TracedCall) -> FloatOp:
    return _op("alias")


def _dropout_module(call: TracedCall) -> FloatOp:
    return _op("dropout")


def _dropout(call: TracedCall) -> FloatOp:
    return _op("dropout", p=float(call.argument(1, "p", 0.5)))


def _pool(call: TracedCall, kind: str, kernel: Any, stride: Any, padding: Any) -> FloatOp:
    rank = len(call.shape_in()) - 2
    kernel = _tuple(kernel, rank)
    stride = kernel if stride is None or stride == [] else _tuple(stride, rank)
    return _op(kind, kernel=kernel, stride=stride, padding=_tuple(padding, rank))


def _max_pool(call: TracedCall) -> FloatOp:
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
    if ceil or indices or set(_tuple(dilation, 1)) != {1}:
        raise call.refuse("expected max pooling without dilation, ceil_mode and return_indices")
    return _pool(call, "max_pool", kernel, stride, padding)


def _avg_pool(call: TracedCall) -> FloatOp:
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
    padded = set(_tuple(padding, 1)) != {0}
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


def _adaptive_avg(call: TracedCall) -> FloatOp:
    return _adaptive(call, "avg_pool")


def _adaptive_max(call: TracedCall) -> FloatOp:
    if getattr(call.module, "return_indices", False) or call.argument(2, "return_indices", False):
        raise call.refuse("expected max pooling without return_indices")
    return _adaptive(call, "max_pool")


def _mean(call: TracedCall) -> FloatOp:
    """The mean over all spatial axes is an average pooling as large as the input; keepdim off flattens as well."""
    shape = call.shape_in()
    axes = {axis % len(shape) for axis in _tuple(call.argument(1, "dim", ()), 1)}
    if axes != set(range(2, len(shape))):
        raise call.refuse("expected a mean over all axes after the channels")
    pool = _pool(call, "avg_pool", shape[2:], None, 0)
    pool.attrs["flatten"] = not call.argument(2, "keepdim", False)
    return pool


def _flatten_to(call: TracedCall, start: int, end: int) -> FloatOp:
    rank = len(call.shape_in())
    if start % rank == 0 or end % rank != rank - 1:
        raise call.refuse("expected a flatten that keeps the batch axis and ends at the last one")
    return _op("flatten", start_dim=start % rank)


def _flatten_module(call: TracedCall) -> FloatOp:
    module = cast(nn.Flatten, call.module)
    return _flatten_to(call, module.start_dim, module.end_dim)


def _flatten(call: TracedCall) -> FloatOp:
    return _flatten_to(call, call.argument(1, "start_dim", 0), call.argument(2, "end_dim", -1))


def _reshape(call: TracedCall) -> FloatOp:
    before, after = call.shape_in(), tuple(call.node.meta["tensor_meta"].shape)
    if before == after:
        return _alias(call)
    if after != (before[0], math.prod(before[1:])):
        raise call.refuse("expected a view that keeps the batch axis and joins all others; use Flatten")
    return _op("flatten", start_dim=1)


def _add(call: TracedCall) -> FloatOp:
    shapes = {tuple(node.meta["tensor_meta"].shape) for node in call.node.all_input_nodes}
    operands = [call.argument(0, "input"), call.argument(1, "other")]
    if call.node.kwargs.get("alpha", 1) != 1 or any(isinstance(x, (int, float)) for x in operands) or len(shapes) != 1:
        raise call.refuse("expected the sum of two activations of equal shape")
    return _op("add")


def _concat(call: TracedCall) -> FloatOp:
    dim = call.argument(1, "dim", call.node.kwargs.get("axis", 0)) % len(call.shape_in())
    if dim == 0:
        raise call.refuse("expected a concat along another axis than the batch")
    return _op("concat", dim=dim)


MODULES: Mapping[type, Reader] = {
    nn.Conv1d: _conv,
    nn.Conv2d: _conv,
    nn.Linear: _linear,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.ReLU: _relu,
    nn.ReLU6: _relu6,
    nn.Hardtanh: _hardtanh_module,
    nn.Hardswish: _hard_swish,
    nn.Sigmoid: _sigmoid,
    nn.Identity: _alias,
    nn.Dropout: _dropout_module,
    nn.Dropout1d: _dropout_module,
    nn.Dropout2d: _dropout_module,
    nn.MaxPool1d: _max_pool,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool1d: _avg_pool,
    nn.AvgPool2d: _avg_pool,
    nn.AdaptiveAvgPool1d: _adaptive_avg,
    nn.AdaptiveAvgPool2d: _adaptive_avg,
    nn.AdaptiveMaxPool1d: _adaptive_max,
    nn.AdaptiveMaxPool2d: _adaptive_max,
    nn.Flatten: _flatten_module,
}

FUNCTION_READERS: Mapping[Any, Reader] = {
    F.relu: _relu,
    torch.relu: _relu,
    F.relu6: _relu6,
    F.hardtanh: _hardtanh,
    torch.clamp: _clamp_call,
    F.hardswish: _hard_swish,
    torch.sigmoid: _sigmoid,
    F.sigmoid: _sigmoid,
    F.dropout: _dropout,
    F.max_pool1d: _max_pool,
    F.max_pool2d: _max_pool,
    torch.max_pool1d: _max_pool,
    torch.max_pool2d: _max_pool,
    F.avg_pool1d: _avg_pool,
    F.avg_pool2d: _avg_pool,
    F.adaptive_avg_pool1d: _adaptive_avg,
    F.adaptive_avg_pool2d: _adaptive_avg,
    F.adaptive_max_pool1d: _adaptive_max,
    F.adaptive_max_pool2d: _adaptive_max,
    torch.mean: _mean,
    torch.flatten: _flatten,
    torch.reshape: _reshape,
    operator.add: _add,
    operator.iadd: _add,
    torch.add: _add,
    torch.cat: _concat,
    torch.concat: _concat,
}

METHODS: Mapping[str, Reader] = {
    "relu": _relu,
    "relu_": _relu,
    "clamp": _clamp_call,
    "sigmoid": _sigmoid,
    "mean": _mean,
    "flatten": _flatten,
    "view": _reshape,
    "reshape": _reshape,
    "add": _add,
    "add_": _add,
    "contiguous": _alias,
}

SHAPE_QUERIES = frozenset({"size", "dim", getattr, operator.getitem, operator.floordiv, operator.mul})
"""What only asks for a shape; on a tensor each of them is refused where its result is used."""
