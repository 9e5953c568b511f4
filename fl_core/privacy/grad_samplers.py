"""Per-example gradients of the quantized layers, for Opacus' hooks.

Weights and biases lie within their grids by construction, so the straight-through gradient is that of the plain layer
at the fake-quantized input, which is what Opacus captured. A convolution's is one batched product of unfolded inputs
and output gradients per group: a depthwise layer costs what it should, not the square of its groups. Only parameters
that are trained are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fl_core.privacy.opacus_part import opacus_grad_sample
from fl_core.quant.fake_quant import LearnedRange
from fl_core.quant.layers import QConv1d, QConv2d, QLayer, QLinear

GradSamples = dict[nn.Parameter, Tensor]


def conv_grad_sample(layer: QConv1d | QConv2d, activations: list[Tensor], backprops: Tensor) -> GradSamples:
    """Gradients [B, *parameter] of a convolution from its input [B, I, *space] and output gradient [B, O, *space]."""
    return _samples(layer, lambda: _conv_weight(layer, activations[0], backprops), lambda: backprops.flatten(2).sum(2))


def linear_grad_sample(layer: QLinear, activations: list[Tensor], backprops: Tensor) -> GradSamples:
    """Gradients [B, *parameter] of a linear layer from its input [B, I] and output gradient [B, O]."""
    return _samples(layer, lambda: torch.einsum("bo,bi->boi", backprops, activations[0]), lambda: backprops)


def range_grad_sample(layer: LearnedRange, activations: list[Tensor], backprops: Tensor) -> GradSamples:
    """Gradient [B, 1] of a learned log scale: LSQ's (arXiv 1902.08153, equation 3) times d scale / d log scale."""
    x = activations[0]
    if not layer.log_scale.requires_grad:
        return {}
    if not layer.fake_quant or not len(x):
        return {layer.log_scale: x.new_zeros(len(x), 1)}
    low, high = layer.levels()
    steps = x * (1.0 / layer.scale())
    inside = (steps > low) & (steps < high)
    per_step = steps.clamp(low, high).round() - torch.where(inside, steps, torch.zeros_like(steps))
    factor = layer.gradient_scale(x) * layer.free_scale().detach()
    return {layer.log_scale: ((backprops * per_step).flatten(1).sum(1) * factor).unsqueeze(1)}


SAMPLERS: Mapping[type[nn.Module], Callable[[Any, list[Tensor], Tensor], GradSamples]] = {
    QConv1d: conv_grad_sample,
    QConv2d: conv_grad_sample,
    QLinear: linear_grad_sample,
    LearnedRange: range_grad_sample,
}


def register_grad_samplers() -> None:
    """Make Opacus use these samplers, whatever it had before. Call it before a model is wrapped."""
    register = opacus_grad_sample().register_grad_sampler
    for layer_type, sampler in SAMPLERS.items():
        register(layer_type)(sampler)


def _samples(layer: QLayer, weight: Callable[[], Tensor], bias: Callable[[], Tensor]) -> GradSamples:
    samples: GradSamples = {}
    if layer.weight.requires_grad:
        samples[layer.weight] = weight()
    if layer.bias is not None and layer.bias.requires_grad:
        samples[layer.bias] = bias()
    return samples


def _conv_weight(layer: QConv1d | QConv2d, x: Tensor, backprops: Tensor) -> Tensor:
    batch, groups = len(x), layer.groups
    if not batch:
        return x.new_zeros(0, *layer.weight.shape)
    kernel = tuple(layer.weight.shape[2:])
    if set(kernel) == set(layer.stride) == {1} and not any(layer.padding):
        patches = x.flatten(2)
    elif isinstance(layer, QConv1d):
        patches = F.unfold(x.unsqueeze(2), (1, *kernel), (1, *layer.dilation), (0, *layer.padding), (1, *layer.stride))
    else:
        patches = F.unfold(x, kernel, layer.dilation, layer.padding, layer.stride)
    patches = patches.reshape(batch * groups, -1, patches.shape[-1])
    outputs = backprops.reshape(batch * groups, -1, patches.shape[-1])
    return torch.bmm(outputs, patches.transpose(1, 2)).reshape(batch, *layer.weight.shape)
