"""The quantization-aware model: a list of steps over named tensors, each on the grid of one quantizer.

The same steps are run in training, lowered to integers and compared layer by layer, so that there is one account of
what the model computes. Layers keep the paths they have in the float model; quantizers stand under ``act_quant``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fl_core.quant.exact import product_on_grid
from fl_core.quant.fake_quant import ActivationQuantizer, straight_through
from fl_core.quant.functions import FUNCTIONS
from fl_core.quant.layers import QLayer


@dataclass(frozen=True, eq=False)
class Step:
    """One operation. ``op`` is a lowered node's, or "dropout", which only training has.

    ``requantize`` says that the result goes through the quantizer of ``output``; otherwise it is on its grid already.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    output: str
    attrs: Mapping[str, Any] = field(default_factory=dict)
    layer: nn.Module | None = None
    requantize: bool = True


class QatModel(nn.Module):
    """A model made by ``prepare_qat``. Input [B, *input_shape] and output are float32.

    ``grids`` gives every tensor its quantizer; tensors that share a grid share the object.
    """

    def __init__(
        self,
        steps: tuple[Step, ...],
        grids: Mapping[str, ActivationQuantizer],
        input_name: str,
        output_name: str,
        input_shape: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.steps = steps
        self.grids = dict(grids)
        self.input_name = input_name
        self.output_name = output_name
        self.input_shape = input_shape
        self._last_use = {name: step.name for step in steps for name in step.inputs if name != output_name}

    def forward(self, x: Tensor) -> Tensor:
        values: dict[str, Tensor] = {}
        for name, value, step in self._walk(x, values):
            values[name] = value
            for spent in step.inputs if step else ():
                if step and self._last_use.get(spent) == step.name:
                    values.pop(spent, None)
        return values[self.output_name]

    def tensors(self, x: Tensor) -> dict[str, Tensor]:
        """Every tensor of the model by name, the input included, for one batch."""
        values: dict[str, Tensor] = {}
        for name, value, _ in self._walk(x, values):
            values[name] = value
        return values

    def run_step(self, step: Step, inputs: list[Tensor]) -> Tensor:
        """One step alone, fed with ``inputs``, which lie on the grids of ``step.inputs``."""
        if isinstance(step.layer, QLayer):
            target = self.grids[step.output]
            input_scale = self.grids[step.inputs[0]].scale()
            evaluated = not self.training and not torch.is_grad_enabled()
            if evaluated and step.requantize and step.layer.fake_quant and target.fake_quant:
                return product_on_grid(step.layer, inputs[0], input_scale, target.qparams())
            out: Tensor = step.layer(inputs[0], input_scale=input_scale)
        elif step.layer is not None:
            out = step.layer(inputs[0])
        elif step.op == "avg_pool" and self.grids[step.output].fake_quant:
            out = average_on_grid(inputs[0], step.attrs, self.grids[step.output].scale())
        else:
            out = FLOAT_OPS[step.op](inputs, step.attrs)
        return self.grids[step.output](out) if step.requantize else out

    def _walk(self, x: Tensor, values: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor, Step | None]]:
        yield self.input_name, self.grids[self.input_name](x), None
        for step in self.steps:
            yield step.output, self.run_step(step, [values[name] for name in step.inputs]), step


def _add(inputs: list[Tensor], attrs: Mapping[str, Any]) -> Tensor:
    total = inputs[0] + inputs[1]
    for x in inputs[2:]:
        total = total + x
    return total


def _concat(inputs: list[Tensor], attrs: Mapping[str, Any]) -> Tensor:
    return torch.cat(inputs, attrs["dim"])


def _avg_pool(inputs: list[Tensor], attrs: Mapping[str, Any]) -> Tensor:
    pool = F.avg_pool1d if len(attrs["kernel"]) == 1 else F.avg_pool2d
    out: Tensor = pool(inputs[0], attrs["kernel"], attrs["stride"], attrs["padding"])
    return out


def average_on_grid(x: Tensor, attrs: Mapping[str, Any], scale: Tensor) -> Tensor:
    """Average pooling as integers do it, result on the grid of ``x``; the gradient is the plain average pooling's.

    A mean of integers often falls on a rounding tie (every fourth one of two values does). A sum of whole numbers is
    exact in float32, where a float mean would leave the tie to noise.
    """
    mean = _avg_pool([x], attrs)
    with torch.no_grad():
        steps = torch.round(x * (1.0 / scale))
        multiplier = scale * (1.0 / math.prod(attrs["kernel"])) / scale
        value = torch.round(_window_sums(steps, attrs) * multiplier) * scale
    return straight_through(mean, value)


def _window_sums(steps: Tensor, attrs: Mapping[str, Any]) -> Tensor:
    kernel, stride, padding = attrs["kernel"], attrs["stride"], attrs["padding"]
    if len(kernel) == 2:
        return F.avg_pool2d(steps, kernel, stride, padding, divisor_override=1)
    flat = F.avg_pool2d(steps.unsqueeze(2), (1, *kernel), (1, *stride), (0, *padding), divisor_override=1)
    return flat.squeeze(2)


def _max_pool(inputs: list[Tensor], attrs: Mapping[str, Any]) -> Tensor:
    pool = F.max_pool1d if len(attrs["kernel"]) == 1 else F.max_pool2d
    out: Tensor = pool(inputs[0], attrs["kernel"], attrs["stride"], attrs["padding"])
    return out


def _flatten(inputs: list[Tensor], attrs: Mapping[str, Any]) -> Tensor:
    return inputs[0].flatten(attrs["start_dim"])


def _identity(inputs: list[Tensor], attrs: Mapping[str, Any]) -> Tensor:
    return inputs[0]


def _lut(inputs: list[Tensor], attrs: Mapping[str, Any]) -> Tensor:
    return FUNCTIONS[attrs["function"]].forward(inputs[0])


FLOAT_OPS: Mapping[str, Callable[[list[Tensor], Mapping[str, Any]], Tensor]] = {
    "add": _add,
    "concat": _concat,
    "avg_pool": _avg_pool,
    "max_pool": _max_pool,
    "flatten": _flatten,
    "identity": _identity,
    "lut": _lut,
}


def activation_names(model: QatModel) -> list[str]:
    """Names of the tensors that have a range of their own, the input first: the keys of ``prepare_qat``'s ranges."""
    owned = [model.input_name]
    taken = {id(model.grids[model.input_name])}
    for step in model.steps:
        quantizer = model.grids[step.output]
        if id(quantizer) not in taken:
            owned.append(step.output)
            taken.add(id(quantizer))
    return owned
