"""The one integer form of a trained model, which every exporter reads and no exporter changes.

A ``Lowered`` is a list of nodes in execution order over named tensors, each tensor with its scale and zero point.
It defines the arithmetic exactly, so that an independent evaluator and every runtime can be compared with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Op = Literal["conv", "linear", "add", "concat", "avg_pool", "max_pool", "flatten", "identity", "lut"]


@dataclass(frozen=True)
class QParams:
    """How one activation tensor is stored: real = scale * (q - zero_point), with qmin <= q <= qmax.

    On the asymmetric grid q is uint8; on the symmetric one it is int8 with zero point 0 and qmin -127 (0 after a ReLU).
    A ReLU is no node of its own: it is the lower bound of the quantizer that follows it.
    """

    scale: float
    zero_point: int
    qmin: int
    qmax: int
    dtype: Literal["uint8", "int8"]


@dataclass(frozen=True)
class Node:
    """One integer operation.

    conv: ``weight`` int8 [O, I/groups, *kernel], ``weight_scale`` float32 [O], ``bias`` int32 [O] at scale
    input_scale * weight_scale; attrs stride, padding, dilation, groups (tuples of the spatial rank, groups an int).
    linear: as conv, with weight int8 [O, I] and no attrs. add, concat (attrs dim): two or more inputs, each rescaled
    to ``output``.
    avg_pool, max_pool: attrs kernel, stride, padding (avg_pool with ceil_mode off, padding counted).
    flatten: attrs start_dim. identity: requantizes. lut: attrs function ("hard_swish", "sigmoid").
    """

    name: str
    op: Op
    inputs: tuple[str, ...]
    output: str
    attrs: Mapping[str, Any] = field(default_factory=dict)
    weight: npt.NDArray[np.int8] | None = None
    weight_scale: npt.NDArray[np.float32] | None = None
    weight_bits: int = 8
    bias: npt.NDArray[np.int32] | None = None


@dataclass(frozen=True)
class Lowered:
    """A whole model as integers and scales.

    One linear layer by hand, and what ``fl_core.quant.integer`` computes with it:

    >>> import numpy as np
    >>> from fl_core.quant.integer import integer_forward
    >>> from fl_core.quant.lowered import Lowered, Node, QParams
    >>> grids = {"input": QParams(0.5, 0, -127, 127, "int8"), "sum": QParams(0.25, 100, 0, 255, "uint8")}
    >>> scale_O, bias_O = np.ones(1, np.float32), np.array([4], np.int32)  # 4 steps of 0.5 * 1 = 2.0
    >>> layer = Node("fc", "linear", ("input",), "sum", {}, np.array([[1, -2]], np.int8), scale_O, 8, bias_O)
    >>> lowered = Lowered((layer,), grids, "input", "sum", (2,))
    >>> stored = integer_forward(lowered, np.array([[3.0, 1.5]], np.float32))
    >>> {name: values.tolist() for name, values in stored.items()}
    {'input': [[6, 3]], 'sum': [[108]]}
    >>> float(grids["sum"].scale * (108 - grids["sum"].zero_point))  # 3.0 - 2 * 1.5 + 2.0
    2.0

    The arithmetic, in float32 between integers, rounding half to even, then adding the zero point, then cutting to
    [qmin, qmax]:

    - input: ``round(x * (1 / scale))``.
    - conv, linear: int32 accumulator of ``(q - zero_point) * weight`` plus ``bias``; zero padding is the zero point;
      ``round(accumulator * (input_scale * weight_scale / output_scale))``.
    - avg_pool: a depthwise convolution of ones, its weight_scale ``1 / n`` for windows of n values: int32 sum of
      ``q - zero_point``, padding as the zero point; ``round(sum * (input_scale * (1 / n) / output_scale))``. So a
      rounding tie, which an even window often gives, falls the same way everywhere.
    - add, concat, identity, lut: dequantize, compute, ``round(real * (1 / output_scale))``.
    - max_pool, flatten: integers as they are; input and output have the same QParams, as they have for avg_pool.

    ``tensors`` has the QParams of every tensor named by a node, ``input`` and ``output`` included. ``input_shape`` is
    one example without the batch axis. The float input is quantized with ``tensors[input]``, and the output is the
    dequantized ``tensors[output]``.
    """

    nodes: tuple[Node, ...]
    tensors: Mapping[str, QParams]
    input: str
    output: str
    input_shape: tuple[int, ...]


def weighted_layers(lowered: Lowered) -> list[str]:
    """Names of the convolutions and linear layers of a model, in execution order."""
    return [node.name for node in lowered.nodes if node.weight is not None]
