"""Convolution and linear layers whose weight and bias are fake-quantized on the way into the product.

They are modules of their own, not subclasses of torch's: Opacus picks the gradient sampler by the exact type. They
have no buffers, which Opacus refuses beside parameters, and their parameters are called ``weight`` and ``bias``, so a
state dict reads the same as the float model's. The forward takes the scale of the input, for the bias lies on the int32
grid ``input_scale * weight_scale`` that integer kernels add it on; it takes it by keyword, for Opacus reads the batch
size off the last positional input.
"""

from __future__ import annotations

from abc import abstractmethod

import torch.nn.functional as F
from torch import Tensor, nn

from fl_core.quant.fake_quant import FakeQuantized, fake_quant_weight


class QLayer(FakeQuantized):
    """What the quantized layers share: a weight, a bias or None, and the bits of the weight."""

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None, bits: int) -> None:
        super().__init__()
        self.weight = weight
        self.bias: nn.Parameter | None
        self.register_parameter("bias", bias)
        self.bits = bits

    def operands(self, input_scale: Tensor) -> tuple[Tensor, Tensor | None]:
        """Weight and bias as the product sees them."""
        if not self.fake_quant:
            return self.weight, self.bias
        return fake_quant_weight(self.weight, self.bias, input_scale, self.bits)

    @abstractmethod
    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution or matrix product with these operands."""

    def forward(self, x: Tensor, *, input_scale: Tensor) -> Tensor:
        return self.product(x, *self.operands(input_scale))


class QConv1d(QLayer):
    """1-D convolution over [B, I, T], zero padding, any groups."""

    def __init__(
        self,
        weight: nn.Parameter,
        bias: nn.Parameter | None,
        bits: int,
        stride: tuple[int, ...] = (1,),
        padding: tuple[int, ...] = (0,),
        dilation: tuple[int, ...] = (1,),
        groups: int = 1,
    ) -> None:
        super().__init__(weight, bias, bits)
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv1d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class QConv2d(QLayer):
    """2-D convolution over [B, I, H, W], zero padding, any groups."""

    def __init__(
        self,
        weight: nn.Parameter,
        bias: nn.Parameter | None,
        bits: int,
        stride: tuple[int, ...] = (1, 1),
        padding: tuple[int, ...] = (0, 0),
        dilation: tuple[int, ...] = (1, 1),
        groups: int = 1,
    ) -> None:
        super().__init__(weight, bias, bits)
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class QLinear(QLayer):
    """Linear layer over [B, I]."""

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)
