"""Writes a quantization-aware model out as integers and scales.

Nothing is calibrated or rounded anew: weights and biases are the very integers that the fake-quant forward multiplied
with, so an integer runtime can differ from it only where float32 sums fall next to a rounding tie.
"""

from __future__ import annotations

import numpy as np
import torch

from fl_core.errors import ModelError
from fl_core.quant.fake_quant import integer_bias, integer_weight, weight_scale
from fl_core.quant.graph import QatModel, Step
from fl_core.quant.layers import QLayer
from fl_core.quant.lowered import Lowered, Node


def lower(model: torch.nn.Module) -> Lowered:
    """The integer form of a model made by ``prepare_qat``, as its weights and ranges are now.

    Raises:
        ModelError: ``model`` was not made by ``prepare_qat``, or a weight or a range is not finite.
    """
    if not isinstance(model, QatModel):
        raise ModelError(f"model {type(model).__name__}: expected one made by prepare_qat")
    for name, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise ModelError(f"tensor {name}: must be finite to become integer")
    renamed: dict[str, str] = {}
    nodes: list[Node] = []
    for step in model.steps:
        inputs = tuple(renamed.get(name, name) for name in step.inputs)
        if step.op == "dropout":
            renamed[step.output] = inputs[0]
        else:
            nodes.append(_node(model, step, inputs))
    tensors = {name: grid.qparams() for name, grid in model.grids.items() if name not in renamed}
    output = renamed.get(model.output_name, model.output_name)
    return Lowered(tuple(nodes), tensors, model.input_name, output, model.input_shape)


def _node(model: QatModel, step: Step, inputs: tuple[str, ...]) -> Node:
    if not isinstance(step.layer, QLayer):
        return Node(step.name, step.op, inputs, step.output, dict(step.attrs))  # type: ignore[arg-type]
    layer = step.layer
    input_scale = model.grids[step.inputs[0]].scale()
    scale_O = weight_scale(layer.weight, layer.bias, input_scale, layer.bits)
    bias = None
    if layer.bias is not None:
        bias = integer_bias(layer.bias, scale_O, input_scale).numpy().astype(np.int32)
    return Node(
        step.name,
        step.op,  # type: ignore[arg-type]
        inputs,
        step.output,
        dict(step.attrs),
        weight=integer_weight(layer.weight, scale_O).numpy().astype(np.int8),
        weight_scale=scale_O.numpy().copy(),
        weight_bits=layer.bits,
        bias=bias,
    )
