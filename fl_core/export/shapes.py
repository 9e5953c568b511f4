"""Shapes of every tensor of a lowered model, for exporters that must write them down.

Pure arithmetic on ``Lowered``: no runtime and no data are needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fl_core.errors import ExportError
from fl_core.quant.lowered import Lowered, Node

Shape = tuple[int, ...]


def infer_shapes(lowered: Lowered) -> dict[str, Shape]:
    """Shape of one example, without the batch axis, of every tensor, by its name.

    Raises:
        ExportError: a node's input comes from nowhere or does not fit the node; the message names the node.
    """
    shapes: dict[str, Shape] = {lowered.input: lowered.input_shape}
    for node in lowered.nodes:
        missing = [name for name in node.inputs if name not in shapes]
        if missing:
            raise ExportError(f"node {node.name}: expected inputs made by earlier nodes, got {missing}")
        shapes[node.output] = _output_shape(node, [shapes[name] for name in node.inputs])
    if lowered.output not in shapes:
        raise ExportError(f"model: expected a node that makes its output {lowered.output}, got none")
    return shapes


def _output_shape(node: Node, inputs: Sequence[Shape]) -> Shape:
    first = inputs[0]
    if node.op in ("conv", "linear"):
        if node.weight is None:
            raise ExportError(f"node {node.name}: expected a weight, got none")
        return (_convolved if node.op == "conv" else _projected)(node, first, node.weight.shape)
    if node.op in ("avg_pool", "max_pool"):
        return (first[0], *_windows(node, first[1:], node.attrs["kernel"]))
    if node.op == "concat":
        axis = batchless(node.attrs["dim"], len(first))
        return (*first[:axis], sum(shape[axis] for shape in inputs), *first[axis + 1 :])
    if node.op == "flatten":
        axis = batchless(node.attrs["start_dim"], len(first))
        return (*first[:axis], math.prod(first[axis:]))
    if len(set(inputs)) != 1:
        raise ExportError(f"node {node.name}: expected inputs of one shape, got {list(inputs)}")
    return first


def batchless(dim: int, rank: int) -> int:
    """Axis of one example, from an axis ``dim`` of the batch whose examples have ``rank`` axes."""
    return dim - 1 if dim > 0 else dim + rank


def _convolved(node: Node, shape: Shape, weight: Shape) -> Shape:
    if len(shape) != len(weight) - 1 or shape[0] != weight[1] * node.attrs["groups"]:
        raise ExportError(f"node {node.name}: expected an input for a weight of shape {weight}, got {shape}")
    return (weight[0], *_windows(node, shape[1:], weight[2:]))


def _projected(node: Node, shape: Shape, weight: Shape) -> Shape:
    if shape != weight[1:]:
        raise ExportError(f"node {node.name}: expected an input for a weight of shape {weight}, got {shape}")
    return weight[:1]


def _windows(node: Node, sizes: Sequence[int], kernel: Sequence[int]) -> Shape:
    attrs: Mapping[str, Sequence[int]] = node.attrs
    dilation = attrs.get("dilation", (1,) * len(sizes))
    counts = tuple(
        (size + 2 * pad - dilate * (width - 1) - 1) // step + 1
        for size, pad, dilate, width, step in zip(
            sizes, attrs["padding"], dilation, kernel, attrs["stride"], strict=True
        )
    )
    if min(counts) < 1:
        raise ExportError(f"node {node.name}: expected an input that its kernel {tuple(kernel)} fits, got {sizes}")
    return counts
