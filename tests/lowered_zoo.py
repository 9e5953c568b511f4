"""A zoo of lowered models made by hand, for suites that every exporter passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fl_core.export.make import synthetic_inputs
from fl_core.quant.integer import integer_forward
from fl_core.quant.lowered import Lowered, Node, Op, QParams
from fl_core.types import FloatArray


def examples(lowered: Lowered, count: int = 64) -> FloatArray:
    """Inputs of which some lie beyond the range, where the quantizer must clip."""
    return np.float32(1.2) * synthetic_inputs(lowered, count, np.random.default_rng(1))


def reference(lowered: Lowered, x: FloatArray) -> FloatArray:
    """Real outputs by the independent integer evaluator."""
    params = lowered.tensors[lowered.output]
    steps = integer_forward(lowered, x)[lowered.output] - params.zero_point
    return steps.astype(np.float32) * np.float32(params.scale)


@dataclass
class Sketch:
    """Draws a lowered model node by node, with random weights and ranges wide enough to use most of the grid."""

    grid: str
    input_shape: tuple[int, ...]
    bits: int = 8
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, QParams] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tensors["input"] = self.params(2.0, positive=False)

    def params(self, bound: float, positive: bool) -> QParams:
        """A grid for values in [0, bound] or [-bound, bound]."""
        if self.grid == "symmetric":
            return QParams(bound / 127, 0, 0 if positive else -127, 127, "int8")
        return QParams(bound / 255 if positive else 2 * bound / 255, 0 if positive else 121, 0, 255, "uint8")

    def add(self, op: Op, inputs: str, bound: float | None, positive: bool = True, **attrs: Any) -> str:
        """Appends a node without weights; ``bound`` None keeps the grid of its input."""
        sources, output = tuple(inputs.split()), f"t{len(self.nodes)}"
        same = self.tensors[sources[0]]
        self.tensors[output] = same if bound is None else self.params(bound, positive)
        self.nodes.append(Node(f"n{len(self.nodes)}", op, sources, output, attrs))
        return output

    def layer(
        self, op: Op, source: str, shape: tuple[int, ...], bound: float, positive: bool = True, **attrs: Any
    ) -> str:
        """Appends a convolution or linear layer with outputs in [0, bound] or [-bound, bound]."""
        top = 2 ** (self.bits - 1) - 1
        weight = self.rng.integers(-top, top + 1, shape).astype(np.int8)
        scale = self.rng.uniform(1.0, 3.0, shape[0]).astype(np.float32) / np.float32(top * np.sqrt(weight[0].size))
        bias_scale = scale * np.float32(self.tensors[source].scale)
        bias = (self.rng.uniform(-0.2, 0.2, shape[0]) / bias_scale).astype(np.int32)
        output = self.add(op, source, bound, positive, **attrs)
        self.nodes[-1] = replace(self.nodes[-1], weight=weight, weight_scale=scale, bias=bias, weight_bits=self.bits)
        return output

    def conv(self, source: str, *shape: int, stride: int = 1, groups: int = 1, positive: bool = True) -> str:
        """Appends a convolution that keeps the size when its stride is 1."""
        spatial = shape[2:]
        return self.layer(
            "conv",
            source,
            shape,
            2.0,
            positive,
            stride=(stride,) * len(spatial),
            padding=tuple(width // 2 for width in spatial),
            dilation=(1,) * len(spatial),
            groups=groups,
        )

    def pool(self, op: Op, source: str, width: int, rank: int, padding: int = 0) -> str:
        """Appends a pooling without overlap. An average over an even number of values often is a rounding tie."""
        return self.add(op, source, None, kernel=(width,) * rank, stride=(width,) * rank, padding=(padding,) * rank)

    def done(self, output: str) -> Lowered:
        """The finished model, with the range of its output drawn as tight as its outputs are."""
        lowered = Lowered(tuple(self.nodes), self.tensors, "input", output, self.input_shape)
        for _ in range(2):  # the second time on a grid that is fine enough to see the largest output
            bound = float(np.abs(reference(lowered, examples(lowered, 16))).max())
            self.tensors[output] = self.params(bound, positive=False)
        return lowered


def imu_net(grid: str, bits: int = 8) -> Lowered:
    """1-D convolutions with stride, both poolings, two linear layers."""
    net = Sketch(grid, (6, 32), bits)
    x = net.pool("max_pool", net.conv("input", 8, 6, 5), 2, rank=1)
    x = net.pool("avg_pool", net.conv(x, 12, 8, 3, stride=2), 4, rank=1)
    x = net.layer("linear", net.add("flatten", x, None, start_dim=1), (10, 24), 1.0)
    return net.done(net.layer("linear", x, (5, 10), 4.0, positive=False))


def image_net(grid: str, bits: int = 8) -> Lowered:
    """2-D convolutions with a rectangular kernel, both poolings with padding, a linear layer."""
    net = Sketch(grid, (3, 12, 12), bits)
    x = net.pool("max_pool", net.conv("input", 8, 3, 3, 5), 3, rank=2, padding=1)
    x = net.pool("avg_pool", net.conv(x, 8, 8, 3, 3), 2, rank=2, padding=1)
    return net.done(net.layer("linear", net.add("flatten", x, None, start_dim=1), (4, 72), 4.0, positive=False))


def depthwise_net(grid: str, bits: int = 8) -> Lowered:
    """Depthwise, pointwise and grouped convolutions."""
    net = Sketch(grid, (8, 10, 10), bits)
    x = net.conv(net.conv("input", 8, 1, 3, 3, groups=8), 16, 8, 1, 1)
    x = net.conv(net.conv(x, 16, 4, 3, 3, groups=4), 16, 1, 3, 3, groups=16, stride=2)
    x = net.pool("avg_pool", x, 5, rank=2)
    return net.done(net.layer("linear", net.add("flatten", x, None, start_dim=1), (6, 16), 4.0, positive=False))


def residual_net(grid: str, bits: int = 8) -> Lowered:
    """A residual add of a signed and a positive tensor, then a concat of different grids."""
    net = Sketch(grid, (4, 8, 8), bits)
    trunk = net.conv("input", 8, 4, 3, 3)
    branch = net.conv(net.conv(trunk, 8, 8, 3, 3), 8, 8, 3, 3, positive=False)
    joined = net.add("add", f"{trunk} {branch}", 3.0)
    x = net.pool("avg_pool", net.add("concat", f"{joined} {branch}", 3.0, positive=False, dim=1), 4, rank=2)
    return net.done(net.layer("linear", net.add("flatten", x, None, start_dim=1), (4, 64), 4.0, positive=False))


def look_up_net(grid: str, bits: int = 8) -> Lowered:
    """Hard-swish, sigmoid and a change of the grid."""
    net = Sketch(grid, (4, 16), bits)
    x = net.add("lut", net.conv("input", 6, 4, 3, positive=False), 2.0, positive=False, function="hard_swish")
    x = net.add("identity", net.conv(x, 3, 6, 3, positive=False), 1.0, positive=False)
    x = net.add("lut", x, 1.0, function="sigmoid")
    return net.done(net.layer("linear", net.add("flatten", x, None, start_dim=1), (3, 48), 4.0, positive=False))


ZOO: Mapping[str, Callable[..., Lowered]] = {
    "imu": imu_net,
    "image": image_net,
    "depthwise": depthwise_net,
    "residual": residual_net,
    "look_up": look_up_net,
}
