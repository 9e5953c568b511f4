"""Describes each operation of a lowered model once as ONNX nodes, for the quantized form and the float twin alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fl_core.export.onnx.forms import INPUT, OUTPUT, FloatForm, Form, QuantizedForm
from fl_core.export.shapes import Shape, batchless, infer_shapes
from fl_core.quant.lowered import Lowered, Node

OPSET = 13
"""Oldest opset with per-channel DequantizeLinear: boards carry older runtimes than servers."""
IR_VERSION = 7
Shapes = Mapping[str, Shape]


def build_model(lowered: Lowered, integer: bool, metadata: Mapping[str, str]) -> bytes:
    """The model file: float32 ``input`` [N, *input_shape] to float32 ``output``, the batch size N free.

    ``integer`` selects the quantized form, else the float twin. The same arguments give the same bytes.

    Raises:
        ExportError: the nodes do not fit each other.
        onnx.checker.ValidationError: the graph breaks the ONNX standard.
    """
    import onnx
    from onnx import helper

    shapes = infer_shapes(lowered)
    form: Form = QuantizedForm(lowered) if integer else FloatForm(lowered)
    for node in lowered.nodes:
        EMITTERS[node.op](form, node, shapes)
    form.finish(lowered.output)
    graph = helper.make_graph(
        form.sheet.nodes,
        "stonecrop",
        [helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, ["N", *lowered.input_shape])],
        [helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, ["N", *shapes[lowered.output]])],
        list(form.sheet.constants.values()),
    )
    model = helper.make_model(
        graph, producer_name="stonecrop", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    helper.set_model_props(model, dict(sorted(metadata.items())))
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _conv(form: Form, node: Node, shapes: Shapes) -> None:
    attrs = {
        "strides": list(node.attrs["stride"]),
        "pads": list(node.attrs["padding"]) * 2,
        "dilations": list(node.attrs["dilation"]),
        "group": node.attrs["groups"],
    }
    form.store(node.output, _apply(form, "Conv", node, [form.real(node.inputs[0]), *form.weights(node)], **attrs))


def _linear(form: Form, node: Node, shapes: Shapes) -> None:
    inputs = [form.real(node.inputs[0]), *form.weights(node)]
    form.store(node.output, _apply(form, "Gemm", node, inputs, transB=1))


def _add(form: Form, node: Node, shapes: Shapes) -> None:
    op = "Add" if len(node.inputs) == 2 else "Sum"
    form.store(node.output, _apply(form, op, node, [form.real(name) for name in node.inputs]))


def _concat(form: Form, node: Node, shapes: Shapes) -> None:
    axis = batchless(node.attrs["dim"], len(shapes[node.inputs[0]])) + 1
    inputs = [form.real_on(node.output, name) for name in node.inputs]
    form.keep(node, _apply(form, "Concat", node, inputs, axis=axis))


def _avg_pool(form: Form, node: Node, shapes: Shapes) -> None:
    form.store(node.output, form.average(node, shapes[node.output][0], _window(node)))


def _max_pool(form: Form, node: Node, shapes: Shapes) -> None:
    form.keep(node, _apply(form, "MaxPool", node, [form.real(node.inputs[0])], **_window(node)))


def _flatten(form: Form, node: Node, shapes: Shapes) -> None:
    dims = [-1, *shapes[node.output]]  # -1 takes what is left: the batch
    shape = form.sheet.constant("shape:" + ":".join(map(str, dims)), np.array(dims, np.int64))
    form.keep(node, _apply(form, "Reshape", node, [form.real(node.inputs[0]), shape]))


def _identity(form: Form, node: Node, shapes: Shapes) -> None:
    form.look_up(node, None)


def _lut(form: Form, node: Node, shapes: Shapes) -> None:
    form.look_up(node, node.attrs["function"])


def _apply(form: Form, op: str, node: Node, inputs: Sequence[str], **attrs: Any) -> str:
    return form.sheet.emit(op, inputs, f"{node.name}:out", name=f"{node.name}:out", **attrs)


def _window(node: Node) -> dict[str, list[int]]:
    attrs = node.attrs
    return {
        "kernel_shape": list(attrs["kernel"]),
        "strides": list(attrs["stride"]),
        "pads": list(attrs["padding"]) * 2,
    }


EMITTERS: Mapping[str, Callable[[Form, Node, Shapes], None]] = {
    "conv": _conv,
    "linear": _linear,
    "add": _add,
    "concat": _concat,
    "avg_pool": _avg_pool,
    "max_pool": _max_pool,
    "flatten": _flatten,
    "identity": _identity,
    "lut": _lut,
}
