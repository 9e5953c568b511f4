"""Compares the fake-quant forward with its lowered form, one layer at a time, in least significant bits (LSB)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fl_core.quant.graph import QatModel
from fl_core.quant.integer import Int64Array, dequantize, integer_forward, quantize
from fl_core.quant.lowered import Lowered


def layer_lsb(model: QatModel, lowered: Lowered, x_BX: npt.NDArray[Any]) -> dict[str, int]:
    """The largest difference in LSB of each node, fed on both sides with the evaluator's integers.

    The model must be in eval mode with fake quantization on. At most 1 is promised: a float32 sum may fall on the
    other side of a rounding tie than the exact one.
    """
    values = integer_forward(lowered, x_BX)
    steps = {step.name: step for step in model.steps}
    with torch.no_grad():
        first = model.grids[model.input_name](torch.from_numpy(np.asarray(x_BX, np.float32)))
        worst = {lowered.input: _distance(first, lowered, lowered.input, values)}
        for node in lowered.nodes:
            reals = [torch.from_numpy(dequantize(values[name], lowered.tensors[name])) for name in node.inputs]
            out = model.run_step(steps[node.name], reals)
            worst[node.name] = _distance(out, lowered, node.output, values)
    return worst


def _distance(out: torch.Tensor, lowered: Lowered, tensor: str, values: dict[str, Int64Array]) -> int:
    found = quantize(out.numpy(), lowered.tensors[tensor])
    return int(np.abs(found - values[tensor]).max(initial=0))
