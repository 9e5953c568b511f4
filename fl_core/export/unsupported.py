"""What every integer runtime needs of a lowered model, checked before anything is written.

The reasons name their node and say what was expected; an exporter adds what its own format cannot do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from fl_core.errors import ExportError
from fl_core.export.shapes import infer_shapes
from fl_core.quant.lowered import Lowered, Node, QParams

INT32_MAX = 2**31 - 1


def reasons_against(
    lowered: Lowered, ops: frozenset[str], look_ups: frozenset[str], spatial_ranks: Sequence[int]
) -> list[str]:
    """Why a model cannot be exported, one sentence a reason; empty when it can.

    Args:
        ops: operations that the format has.
        look_ups: elementwise functions that the format has.
        spatial_ranks: ranks of the convolutions and poolings that the format has.
    """
    reasons = [reason for name, params in lowered.tensors.items() for reason in _of_tensor(name, params)]
    for node in lowered.nodes:
        unknown = [name for name in (*node.inputs, node.output) if name not in lowered.tensors]
        if node.op not in ops:
            reasons.append(f"node {node.name}: expected one of {', '.join(sorted(ops))}, got {node.op}")
        elif unknown:
            reasons.append(f"node {node.name}: expected a grid for every tensor, got none for {unknown}")
        elif node.op == "lut" and node.attrs["function"] not in look_ups:
            reasons.append(
                f"node {node.name}: expected one of {', '.join(sorted(look_ups))}, got {node.attrs['function']}"
            )
        elif node.op in ("max_pool", "flatten") and lowered.tensors[node.inputs[0]] != lowered.tensors[node.output]:
            reasons.append(f"node {node.name}: expected an output on the grid of its input, got another")
        elif node.op in ("conv", "linear"):
            reasons.extend(_of_weights(lowered, node))
    if reasons:
        return reasons
    try:
        shapes = infer_shapes(lowered)
    except ExportError as error:
        return [str(error)]
    windows = [node for node in lowered.nodes if node.op in ("conv", "avg_pool", "max_pool")]
    return [
        f"node {node.name}: expected {' or '.join(map(str, spatial_ranks))} spatial axes, got {rank}"
        for node in windows
        if (rank := len(shapes[node.output]) - 1) not in spatial_ranks
    ]


def _of_tensor(name: str, params: QParams) -> Iterator[str]:
    if not (math.isfinite(params.scale) and params.scale > 0):
        yield f"tensor {name}: expected a positive scale, got {params.scale}"
    if not params.qmin <= params.zero_point <= params.qmax:
        yield f"tensor {name}: expected a zero point in [{params.qmin}, {params.qmax}], got {params.zero_point}"
    low, high = (0, 255) if params.dtype == "uint8" else (-128, 127)
    if not low <= params.qmin < params.qmax <= high:
        yield f"tensor {name}: expected integers within [{low}, {high}], got [{params.qmin}, {params.qmax}]"


def _of_weights(lowered: Lowered, node: Node) -> Iterator[str]:
    if node.weight is None or node.weight_scale is None:
        yield f"node {node.name}: expected a weight and its scales, got none"
        return
    if not (np.isfinite(node.weight_scale).all() and (node.weight_scale > 0).all()):
        yield f"node {node.name}: expected positive weight scales, got {node.weight_scale.min()}"
    params = lowered.tensors[node.inputs[0]]
    widest = max(params.qmax - params.zero_point, params.zero_point - params.qmin)
    taps_O = np.abs(node.weight.astype(np.int64)).reshape(len(node.weight), -1).sum(axis=1)
    sums_O = widest * taps_O + (0 if node.bias is None else np.abs(node.bias.astype(np.int64)))
    if sums_O.max() > INT32_MAX:
        yield f"node {node.name}: expected sums that fit 32 bits, got up to {sums_O.max()}"
