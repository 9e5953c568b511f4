"""The two forms in which one graph is written to ONNX: quantized for runtimes, and its float32 twin.

Both answer the same few questions (``Form``), so that ``graph`` describes every operation once. In the quantized
form each activation is uint8: the file stores q - qmin, which is exact for both grids, lets saturation at 0 be the
lower bound (so a ReLU needs no node) and keeps ONNX Runtime on its integer kernels, which int8 activations would leave
on residual adds. A range narrower than 255 steps (the symmetric grid) gets a Clip on the integers for its upper bound.
Look-ups and changes of the grid become the tables of ``fl_core.export.tables``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fl_core.export.tables import look_up_table
from fl_core.quant.lowered import Lowered, Node, QParams

INPUT = "input"
OUTPUT = "output"
AnyArray = npt.NDArray[Any]


class Sheet:
    """Collects nodes and constants; a constant is written once however often it is named."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self._weights: dict[tuple[tuple[int, ...], bytes], str] = {}

    def emit(self, op: str, inputs: Sequence[str], output: str, **attrs: Any) -> str:
        """Appends one node and gives the name of its value."""
        from onnx import helper

        self.nodes.append(helper.make_node(op, list(inputs), [output], **attrs))
        return output

    def constant(self, name: str, values: npt.ArrayLike) -> str:
        """Adds a constant and gives its name."""
        from onnx import numpy_helper

        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(values), name)
        return name

    def weight(self, name: str, values: AnyArray) -> str:
        """Adds a weight, in the file once however many layers share it, and gives its name for one layer.

        ONNX Runtime lays a weight out anew for each layer, and refuses to when two of them read one constant.
        """
        written = self._weights.setdefault((values.shape, values.tobytes()), name)
        if written == name:
            return self.constant(name, values)
        return self.emit("Reshape", [written, self.constant(f"{name}:shape", np.array(values.shape, np.int64))], name)


class Form(Protocol):
    """How tensors are stored between operations, and what an operation reads."""

    @property
    def sheet(self) -> Sheet:
        """Where nodes and constants go."""

    def real(self, tensor: str) -> str:
        """Name of the float value of a tensor."""

    def real_on(self, target: str, tensor: str) -> str:
        """Name of the float value of a tensor, brought to the grid of the tensor ``target``."""

    def weights(self, node: Node) -> list[str]:
        """Names of the float values of a node's weight and, where there is one, bias."""

    def average(self, node: Node, channels: int, window: Mapping[str, list[int]]) -> str:
        """Name of the mean over windows of the node's input, padding counted."""

    def store(self, tensor: str, value: str) -> None:
        """Makes a float value the content of a tensor, on its grid and within its bounds."""

    def keep(self, node: Node, value: str) -> None:
        """Makes ``value``, chosen from the node's input without arithmetic, its output: both are on one grid."""

    def look_up(self, node: Node, function: str | None) -> None:
        """Applies an elementwise function, or None to change the grid alone."""

    def finish(self, tensor: str) -> None:
        """Makes a tensor the model's output."""


class FloatForm:
    """float32 throughout: weights dequantized, activations bounded by their ranges and not rounded."""

    def __init__(self, lowered: Lowered) -> None:
        self.sheet = Sheet()
        self._lowered = lowered
        self._values = {lowered.input: INPUT}

    def real(self, tensor: str) -> str:
        return self._values[tensor]

    def real_on(self, target: str, tensor: str) -> str:
        return self.real(tensor)

    def weights(self, node: Node) -> list[str]:
        weight, scale_O, bias_scale_O = _weight_scales(self._lowered, node)
        per_channel = scale_O.reshape(-1, *[1] * (weight.ndim - 1))
        names = [self.sheet.weight(f"{node.name}:w", (weight * per_channel).astype(np.float32))]
        if node.bias is not None:
            names.append(self.sheet.constant(f"{node.name}:b", (node.bias * bias_scale_O).astype(np.float32)))
        return names

    def average(self, node: Node, channels: int, window: Mapping[str, list[int]]) -> str:
        return self.sheet.emit(
            "AveragePool", [self.real(node.inputs[0])], f"{node.name}:out", count_include_pad=1, **window
        )

    def store(self, tensor: str, value: str) -> None:
        params = self._lowered.tensors[tensor]
        bounds = [
            self.sheet.constant(f"{tensor}:{which}", np.float32(params.scale * (q - params.zero_point)))
            for which, q in (("low", params.qmin), ("high", params.qmax))
        ]
        self._values[tensor] = self.sheet.emit("Clip", [value, *bounds], f"{tensor}:clip")

    def keep(self, node: Node, value: str) -> None:
        self._values[node.output] = value

    def look_up(self, node: Node, function: str | None) -> None:
        value = self.real(node.inputs[0])
        self.store(node.output, value if function is None else FLOAT_FUNCTIONS[function](self.sheet, value, node.name))

    def finish(self, tensor: str) -> None:
        self.sheet.emit("Identity", [self.real(tensor)], OUTPUT)


def _hard_swish(sheet: Sheet, value: str, name: str) -> str:
    gate = sheet.emit("HardSigmoid", [value], f"{name}:gate", alpha=1.0 / 6.0, beta=0.5)
    return sheet.emit("Mul", [value, gate], f"{name}:out")


def _sigmoid(sheet: Sheet, value: str, name: str) -> str:
    return sheet.emit("Sigmoid", [value], f"{name}:out")


FLOAT_FUNCTIONS: Mapping[str, Callable[[Sheet, str, str], str]] = {"hard_swish": _hard_swish, "sigmoid": _sigmoid}
"""The functions of ``lut`` nodes as nodes of the float twin."""


class QuantizedForm:
    """uint8 between operations: read through DequantizeLinear, stored through QuantizeLinear.

    A name is a tensor's or a node's with a suffix after a colon, which no layer's path has.
    """

    def __init__(self, lowered: Lowered) -> None:
        self.sheet = Sheet()
        self._lowered = lowered
        self._stored: dict[str, str] = {}
        self._read: dict[str, str] = {}
        self.store(lowered.input, INPUT)

    def real(self, tensor: str) -> str:
        if tensor not in self._read:
            self._read[tensor] = self._dequantize(tensor, self._stored[tensor], f"{tensor}:f")
        return self._read[tensor]

    def real_on(self, target: str, tensor: str) -> str:
        if self._lowered.tensors[tensor] == self._lowered.tensors[target]:
            return self.real(tensor)
        moved = f"{tensor}:to:{target}"
        if moved not in self._read:
            self._read[moved] = self._dequantize(target, self._through_table(tensor, target, None), f"{moved}:f")
        return self._read[moved]

    def weights(self, node: Node) -> list[str]:
        weight, scale_O, bias_scale_O = _weight_scales(self._lowered, node)
        names = [self._dequantize_constant(f"{node.name}:w", weight, scale_O)]
        if node.bias is not None:
            names.append(self._dequantize_constant(f"{node.name}:b", node.bias, bias_scale_O))
        return names

    def average(self, node: Node, channels: int, window: Mapping[str, list[int]]) -> str:
        """A depthwise convolution of ones, as ``Lowered`` defines it: integer sums, so that ties are exact.

        The runtime makes the ones when it loads the file, which then does not carry them.
        """
        from onnx import numpy_helper

        kernel = window["kernel_shape"]
        shape = self.sheet.constant(f"{node.name}:kernel", np.array([channels, 1, *kernel], np.int64))
        one = numpy_helper.from_array(np.ones(1, np.int8))
        ones = self.sheet.emit("ConstantOfShape", [shape], f"{node.name}:ones", value=one)
        share = self.sheet.constant(f"{node.name}:share", np.float32(1) / np.float32(prod(kernel)))
        inputs = [ones, share, self.sheet.constant("zero:ones", np.int8(0))]
        weight = self.sheet.emit("DequantizeLinear", inputs, f"{node.name}:w:f")
        name = f"{node.name}:out"
        return self.sheet.emit("Conv", [self.real(node.inputs[0]), weight], name, name=name, group=channels, **window)

    def store(self, tensor: str, value: str) -> None:
        stored = self.sheet.emit("QuantizeLinear", [value, *self._grid(tensor)], f"{tensor}:q")
        steps = _steps(self._lowered.tensors[tensor])
        if steps < 255:
            high = self.sheet.constant(f"high:{steps}", np.uint8(steps))
            stored = self.sheet.emit("Clip", [stored, "", high], f"{tensor}:clip")
        self._stored[tensor] = stored

    def keep(self, node: Node, value: str) -> None:
        inputs = [value, *self._grid(node.output)]
        self._stored[node.output] = self.sheet.emit("QuantizeLinear", inputs, f"{node.output}:q")

    def look_up(self, node: Node, function: str | None) -> None:
        self._stored[node.output] = self._through_table(node.inputs[0], node.output, function)

    def finish(self, tensor: str) -> None:
        self._dequantize(tensor, self._stored[tensor], OUTPUT)

    def _through_table(self, source: str, target: str, function: str | None) -> str:
        name = f"{source}:to:{target}"
        grid = self._lowered.tensors[target]
        values = look_up_table(self._lowered.tensors[source], grid, function)
        table = self.sheet.constant(f"{name}:table", (values - grid.qmin).astype(np.uint8))
        index = self.sheet.emit("Cast", [self._stored[source]], f"{name}:index", to=_INT32)
        return self.sheet.emit("Gather", [table, index], name, axis=0)

    def _grid(self, tensor: str) -> list[str]:
        """Names of a tensor's scale and zero point: 0-d, else ONNX Runtime falls back to float kernels."""
        params = self._lowered.tensors[tensor]
        zero_point = params.zero_point - params.qmin
        return [
            self.sheet.constant(f"{tensor}:scale", np.float32(params.scale)),
            self.sheet.constant(f"zero:{zero_point}", np.uint8(zero_point)),
        ]

    def _dequantize(self, tensor: str, stored: str, name: str) -> str:
        return self.sheet.emit("DequantizeLinear", [stored, *self._grid(tensor)], name)

    def _dequantize_constant(self, name: str, values: AnyArray, scale_O: AnyArray) -> str:
        stored = self.sheet.weight(name, values) if values.ndim > 1 else self.sheet.constant(name, values)
        inputs = [stored, self.sheet.constant(f"{name}:scale", scale_O)]
        inputs.append(self.sheet.constant(f"{name}:zero", np.zeros(len(scale_O), values.dtype)))
        return self.sheet.emit("DequantizeLinear", inputs, f"{name}:f", axis=0)


_INT32 = 6
"""``onnx.TensorProto.INT32``, without importing onnx for it."""


def _steps(params: QParams) -> int:
    return params.qmax - params.qmin


def _weight_scales(lowered: Lowered, node: Node) -> tuple[AnyArray, AnyArray, AnyArray]:
    """A node's integer weight, its scale per output channel and the scale of its bias, float32."""
    assert node.weight is not None
    assert node.weight_scale is not None
    scale_O = node.weight_scale.astype(np.float32)
    return node.weight, scale_O, scale_O * np.float32(lowered.tensors[node.inputs[0]].scale)
