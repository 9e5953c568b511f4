"""Products of the fake-quant forward without rounding noise, for when nobody asks for a gradient.

In training a product is summed in float32, whose error moves a value across a rounding threshold now and then; in a
deep net such steps add up. In evaluation the same product is summed over whole numbers, which is exact, and
requantized with the float32 arithmetic that ``Lowered`` defines. What is scored and compared with an artefact is then
what the integers compute.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fl_core.quant.fake_quant import integer_bias, integer_weight, weight_scale
from fl_core.quant.layers import QLayer
from fl_core.quant.lowered import QParams

_EXACT_IN_FLOAT32 = 2.0**24
"""Whole numbers up to here have no gaps in float32, so no order of summation rounds."""
_LARGEST_STEPS = 255
"""Distance of a quantized activation from its zero point, at most."""


def product_on_grid(layer: QLayer, x: Tensor, input_scale: Tensor, target: QParams) -> Tensor:
    """The layer's output [B, ...] on the grid of ``target``, float32, for ``x`` on the grid of ``input_scale``."""
    scale_O = weight_scale(layer.weight, layer.bias, input_scale, layer.bits)
    weight = integer_weight(layer.weight, scale_O)
    taps = weight[0].numel() if len(weight) else 0
    fits = taps * _LARGEST_STEPS * 2 ** (layer.bits - 1) < _EXACT_IN_FLOAT32
    kind = torch.float32 if fits else torch.float64
    steps = torch.round(x / input_scale)
    sums = layer.product(steps.to(kind), weight.to(kind), None).round_().double()
    by_channel = (-1, *[1] * (sums.dim() - 2))
    if layer.bias is not None:
        sums += integer_bias(layer.bias, scale_O, input_scale).double().reshape(by_channel)
    multiplier_O = input_scale * scale_O / torch.tensor(target.scale, dtype=torch.float32)
    placed = torch.round(sums.float() * multiplier_O.reshape(by_channel))
    below, above = target.qmin - target.zero_point, target.qmax - target.zero_point
    return placed.clamp_(below, above).mul_(target.scale)
