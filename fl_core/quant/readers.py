"""How each torch layer, function and tensor method is read as an operation that can become integer."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

from fl_core.quant import pooling
from fl_core.quant.float_ops import FloatOp, Reader, TracedCall, as_tuple, clamp_of, operation, shape_of


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
        padding = (0,) * len(conv.kernel_size) if conv.padding == "valid" else as_tuple(conv.padding, 1)
    return operation("conv", stride=conv.stride, padding=padding, dilation=conv.dilation, groups=conv.groups)


def _linear(call: TracedCall) -> FloatOp:
    if len(call.shape_in()) != 2:
        raise call.refuse(f"expected an input [B, features], got {len(call.shape_in())} axes; use Flatten before it")
    return operation("linear")


def _batch_norm(call: TracedCall) -> FloatOp:
    return operation("batch_norm")


def _clamp(low: float | None, high: float | None, call: TracedCall) -> FloatOp:
    op = operation("clamp")
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


def _clamp_min(call: TracedCall) -> FloatOp:
    return _clamp(call.argument(1, "min"), None, call)


def _clamp_max(call: TracedCall) -> FloatOp:
    return _clamp(None, call.argument(1, "max"), call)


def _hard_swish(call: TracedCall) -> FloatOp:
    return operation("lut", function="hard_swish")


def _sigmoid(call: TracedCall) -> FloatOp:
    return operation("lut", function="sigmoid")


def _alias(call: TracedCall) -> FloatOp:
    return operation("alias")


def _dropout_module(call: TracedCall) -> FloatOp:
    return operation("dropout")


def _dropout(call: TracedCall) -> FloatOp:
    if not call.argument(2, "training", True):
        return _alias(call)
    return operation("dropout", p=float(call.argument(1, "p", 0.5)))


def _flatten_to(call: TracedCall, start: int, end: int) -> FloatOp:
    rank = len(call.shape_in())
    if start % rank == 0 or end % rank != rank - 1:
        raise call.refuse("expected a flatten that keeps the batch axis and ends at the last one")
    return operation("flatten", start_dim=start % rank)


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
        raise call.refuse("expected a view that keeps the batch axis and joins all others, as Flatten does")
    return operation("flatten", start_dim=1)


def _add(call: TracedCall) -> FloatOp:
    operands = [call.argument(0, "input"), call.argument(1, "other")]
    if any(isinstance(x, (int, float)) for x in operands):
        raise call.refuse("expected the sum of two activations, got a number; put it into the bias of the layer before")
    if call.node.kwargs.get("alpha", 1) != 1:
        raise call.refuse(
            "expected the sum of two activations without alpha; put it into the weight of the layer before"
        )
    shapes = [list(shape_of(node)[1:]) for node in call.node.all_input_nodes]
    if any(shape != shapes[0] for shape in shapes):
        raise call.refuse(f"expected two activations of equal shape, got {' and '.join(map(str, shapes))}")
    return operation("add")


def _concat(call: TracedCall) -> FloatOp:
    dim = call.argument(1, "dim", call.node.kwargs.get("axis", 0)) % len(call.shape_in())
    if dim == 0:
        raise call.refuse("expected a concat along another axis than the batch")
    return operation("concat", dim=dim)


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
    nn.MaxPool1d: pooling.max_pool,
    nn.MaxPool2d: pooling.max_pool,
    nn.AvgPool1d: pooling.avg_pool,
    nn.AvgPool2d: pooling.avg_pool,
    nn.AdaptiveAvgPool1d: pooling.adaptive_avg,
    nn.AdaptiveAvgPool2d: pooling.adaptive_avg,
    nn.AdaptiveMaxPool1d: pooling.adaptive_max,
    nn.AdaptiveMaxPool2d: pooling.adaptive_max,
    nn.Flatten: _flatten_module,
}

FUNCTION_READERS: Mapping[Any, Reader] = {
    F.relu: _relu,
    torch.relu: _relu,
    F.relu6: _relu6,
    F.hardtanh: _hardtanh,
    F.relu_: _relu,
    torch.relu_: _relu,
    F.hardtanh_: _hardtanh,
    torch.clamp: _clamp_call,
    torch.clamp_: _clamp_call,
    torch.clip: _clamp_call,
    torch.clip_: _clamp_call,
    torch.clamp_min: _clamp_min,
    torch.clamp_min_: _clamp_min,
    torch.clamp_max: _clamp_max,
    torch.clamp_max_: _clamp_max,
    F.hardswish: _hard_swish,
    torch.sigmoid: _sigmoid,
    torch.sigmoid_: _sigmoid,
    F.sigmoid: _sigmoid,
    F.dropout: _dropout,
    F.max_pool1d: pooling.max_pool,
    F.max_pool2d: pooling.max_pool,
    torch.max_pool1d: pooling.max_pool,
    torch.max_pool2d: pooling.max_pool,
    F.avg_pool1d: pooling.avg_pool,
    F.avg_pool2d: pooling.avg_pool,
    F.adaptive_avg_pool1d: pooling.adaptive_avg,
    F.adaptive_avg_pool2d: pooling.adaptive_avg,
    F.adaptive_max_pool1d: pooling.adaptive_max,
    F.adaptive_max_pool2d: pooling.adaptive_max,
    torch.mean: pooling.mean,
    torch.flatten: _flatten,
    torch.reshape: _reshape,
    torch.squeeze: _reshape,
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
    "clamp_": _clamp_call,
    "clip": _clamp_call,
    "clip_": _clamp_call,
    "clamp_min": _clamp_min,
    "clamp_min_": _clamp_min,
    "clamp_max": _clamp_max,
    "clamp_max_": _clamp_max,
    "sigmoid": _sigmoid,
    "sigmoid_": _sigmoid,
    "mean": pooling.mean,
    "flatten": _flatten,
    "view": _reshape,
    "reshape": _reshape,
    "squeeze": _reshape,
    "add": _add,
    "add_": _add,
    "contiguous": _alias,
    "float": _alias,
}

SHAPE_QUERIES = frozenset({"size", "dim", "numel", getattr})
"""What only asks for a shape; a tensor that one of them gives is refused."""
