"""Runs a lowered model on integers in numpy: the yardstick for the fake-quant forward and for every runtime.

It shares no code with either, elementwise functions included: a mistake in one of them must not stand in its yardstick.
Products are summed exactly (float64 holds every int32 accumulator), and requantization is the float32 arithmetic that
``Lowered`` defines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from fl_core.errors import ModelError
from fl_core.quant.lowered import Lowered, Node, QParams
from fl_core.types import FloatArray

Int64Array = npt.NDArray[np.int64]

_CHUNK = 32
"""Examples unfolded at a time."""


def integer_forward(lowered: Lowered, x_BX: npt.NDArray[Any]) -> dict[str, Int64Array]:
    """The integers [B, ...] of every tensor by name, for float inputs ``x_BX`` [B, *input_shape].

    Raises:
        ModelError: an accumulator leaves int32.
    """
    params = lowered.tensors
    values = {lowered.input: quantize(np.asarray(x_BX, np.float32), params[lowered.input])}
    for node in lowered.nodes:
        inputs = [values[name] for name in node.inputs]
        values[node.output] = run_node(node, inputs, [params[name] for name in node.inputs], params[node.output])
    return values


def run_node(node: Node, inputs: list[Int64Array], sources: list[QParams], target: QParams) -> Int64Array:
    """One node alone: integers of its output from integers of its inputs."""
    if node.op in ("conv", "linear"):
        return _product(node, inputs[0], sources[0], target)
    if node.op == "avg_pool":
        sums = _windows(inputs[0] - sources[0].zero_point, node.attrs, padding=0).sum(-1)
        share = np.float32(1) / np.float32(np.prod(node.attrs["kernel"]))
        return _requantize(sums, np.float32(sources[0].scale) * share / np.float32(target.scale), target)
    if node.op == "flatten":
        start = node.attrs["start_dim"]
        return inputs[0].reshape(*inputs[0].shape[:start], -1)
    if node.op == "max_pool":
        largest: Int64Array = _windows(inputs[0], node.attrs, padding=np.iinfo(np.int64).min).max(-1)
        return largest
    reals = [dequantize(q, source) for q, source in zip(inputs, sources, strict=True)]
    return quantize(_REAL_OPS[node.op](reals, node.attrs), target)


def quantize(real: FloatArray, params: QParams) -> Int64Array:
    """Integers of real values: half to even of ``real * (1 / scale)``."""
    steps = np.rint(real.astype(np.float32) * (np.float32(1) / np.float32(params.scale)))
    return _place(steps, params)


def dequantize(q: Int64Array, params: QParams) -> FloatArray:
    """Real values of integers, float32."""
    return (q - params.zero_point).astype(np.float32) * np.float32(params.scale)


def _place(steps: FloatArray, params: QParams) -> Int64Array:
    low, high = params.qmin - params.zero_point, params.qmax - params.zero_point
    return np.clip(steps, low, high).astype(np.int64) + params.zero_point


def _product(node: Node, q: Int64Array, source: QParams, target: QParams) -> Int64Array:
    assert node.weight is not None
    assert node.weight_scale is not None
    chunks = [_accumulate(node, (q[at : at + _CHUNK] - source.zero_point)) for at in range(0, max(len(q), 1), _CHUNK)]
    accumulator = np.concatenate(chunks)
    trailing = (1,) * (accumulator.ndim - 2)
    if node.bias is not None:
        accumulator = accumulator + node.bias.astype(np.int64).reshape(-1, *trailing)
    if np.abs(accumulator).max(initial=0) >= 2**31:
        raise ModelError(f"layer {node.name}: its accumulator leaves int32")
    multiplier_O = np.float32(source.scale) * node.weight_scale / np.float32(target.scale)
    return _requantize(accumulator, multiplier_O.astype(np.float32).reshape(-1, *trailing), target)


def _requantize(accumulator: Int64Array, multiplier: Any, target: QParams) -> Int64Array:
    return _place(np.rint(accumulator.astype(np.float32) * multiplier), target)


def _accumulate(node: Node, centred: Int64Array) -> Int64Array:
    assert node.weight is not None
    weight = node.weight.astype(np.float64)
    if node.op == "linear":
        return np.rint(centred.astype(np.float64) @ weight.T).astype(np.int64)
    attrs = {**node.attrs, "kernel": node.weight.shape[2:]}
    windows = _windows(centred, attrs, padding=0).astype(np.float64)  # [B, I, *space, prod(kernel)]
    groups = node.attrs["groups"]
    batch, space = len(centred), windows.shape[2:-1]
    by_group = np.moveaxis(windows.reshape(batch, groups, -1, *space, windows.shape[-1]), 2, -2)
    columns = by_group.reshape(batch, groups, int(np.prod(space)), -1)
    rows = weight.reshape(groups, weight.shape[0] // groups, -1)
    sums = rows @ columns.swapaxes(-1, -2)  # [B, groups, O / groups, prod(space)]
    return np.rint(sums).astype(np.int64).reshape(batch, -1, *space)


def _windows(q: npt.NDArray[Any], attrs: Mapping[str, Any], padding: float) -> npt.NDArray[Any]:
    """Windows [B, C, *space, prod(kernel)] of ``q`` [B, C, *space_in]."""
    rank = len(attrs["kernel"])
    dilation = attrs.get("dilation", (1,) * rank)
    margins = [(0, 0), (0, 0), *((p, p) for p in attrs["padding"])]
    padded = np.pad(q, margins, constant_values=padding)
    spans = tuple(d * (k - 1) + 1 for d, k in zip(dilation, attrs["kernel"], strict=True))
    windows = sliding_window_view(padded, spans, axis=tuple(range(2, 2 + rank)))
    strides = tuple(slice(None, None, s) for s in attrs["stride"])
    taps = tuple(slice(None, None, d) for d in dilation)
    windows = windows[(slice(None), slice(None), *strides, *taps)]
    return windows.reshape(*windows.shape[: 2 + rank], -1)


def _add(reals: list[FloatArray], attrs: Mapping[str, Any]) -> FloatArray:
    return reals[0] + reals[1]


def _concat(reals: list[FloatArray], attrs: Mapping[str, Any]) -> FloatArray:
    return np.concatenate(reals, axis=attrs["dim"])


def _identity(reals: list[FloatArray], attrs: Mapping[str, Any]) -> FloatArray:
    return reals[0]


def _lut(reals: list[FloatArray], attrs: Mapping[str, Any]) -> FloatArray:
    return INTEGER_FUNCTIONS[attrs["function"]](reals[0]).astype(np.float32)


INTEGER_FUNCTIONS: Mapping[str, Callable[[FloatArray], npt.NDArray[Any]]] = {
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}
"""The functions of ``lut`` nodes: an own account of each, on purpose."""

_REAL_OPS: Mapping[str, Callable[[list[FloatArray], Mapping[str, Any]], FloatArray]] = {
    "add": _add,
    "concat": _concat,
    "identity": _identity,
    "lut": _lut,
}
