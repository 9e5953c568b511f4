"""ResNet-8 for 32x32 images, as MLPerf Tiny has it (arXiv 2106.07597): three residual stages, 16, 32, 64 channels.

The benchmark's 78,186 parameters (Keras counts frozen statistics in) carry batch normalisation; here each convolution
has a bias instead. The last convolution of a branch starts at zero, so the net begins as its shortcuts and trains
without normalisation (Fixup, arXiv 1901.09321).
"""

from __future__ import annotations

from torch import Tensor, nn

from fl_core.models.start import he_start, ranged_logits, ranged_relu


class ResidualBlock(nn.Module):
    """relu(branch(x) + shortcut(x)), with a 1x1 convolution as shortcut where the shape changes."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, channels, 3, stride=stride, padding=1)
        self.relu = ranged_relu()
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        same = stride == 1 and inputs == channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, channels, 1, stride=stride)
        self.out = ranged_relu()

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] to [B, channels, H / stride, W / stride]."""
        out: Tensor = self.out(self.second(self.relu(self.first(x))) + self.shortcut(x))
        return out


def resnet8(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A net that maps images [B, C, H, W] (3x32x32 in the benchmark) to [B, outputs].

    Raises:
        ValueError: the inputs are no images whose sides are multiples of 4.
    """
    if len(input_shape) != 3 or any(side < 8 or side % 4 for side in input_shape[1:]):
        raise ValueError(f"resnet8: expected (C, H, W), sides 8 or more and multiples of 4, got {tuple(input_shape)}")
    channels, height, width = input_shape
    model = nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        ranged_relu(),
        ResidualBlock(16, 16, 1),
        ResidualBlock(16, 32, 2),
        ResidualBlock(32, 64, 2),
        nn.AvgPool2d((height // 4, width // 4)),
        nn.Flatten(),
        ranged_logits(64, outputs),
    )
    he_start(model)
    for block in model.children():
        if isinstance(block, ResidualBlock):
            nn.init.zeros_(block.second.weight)
    return model
