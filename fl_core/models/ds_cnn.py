"""DS-CNN for keyword spotting, as MLPerf Tiny has it (arXiv 2106.07597): 23,756 parameters with normalisation.

Here without normalisation: batch statistics mix examples, which DP-SGD forbids. Each convolution has a bias instead
(22,604 parameters on 49x10 inputs with 12 classes), and starts with the variance that keeps a ReLU net's signal.
"""

from __future__ import annotations

from torch import nn

from fl_core.models.start import he_start, ranged_logits, ranged_relu

_CHANNELS = 64
_BLOCKS = 4


def ds_cnn(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A net that maps spectrograms [B, C, H, W] (49 frames of 10 coefficients in the benchmark) to [B, outputs].

    Raises:
        ValueError: the inputs have another rank, or are smaller than 10x4.
    """
    if len(input_shape) != 3 or input_shape[1] < 10 or input_shape[2] < 4:
        raise ValueError(f"ds_cnn: expected inputs of shape (C, H, W), at least (1, 10, 4), got {tuple(input_shape)}")
    channels, height, width = input_shape
    layers: list[nn.Module] = [nn.Conv2d(channels, _CHANNELS, (10, 4), stride=2, padding=(5, 1)), ranged_relu()]
    for _ in range(_BLOCKS):
        layers += [
            nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1, groups=_CHANNELS),
            ranged_relu(),
            nn.Conv2d(_CHANNELS, _CHANNELS, 1),
            ranged_relu(),
        ]
    rows, columns = (height + 10 - 10) // 2 + 1, (width + 2 - 4) // 2 + 1
    layers += [nn.AvgPool2d((rows, columns)), nn.Flatten(), ranged_logits(_CHANNELS, outputs)]
    return he_start(nn.Sequential(*layers))
