"""A small convolutional net for images, all of it trained: 30 thousand parameters on 28x28 grey ones."""

from __future__ import annotations

from torch import nn

from fl_core.models.start import he_start, ranged_logits, ranged_relu


def image_cnn(input_shape: tuple[int, ...], outputs: int, width: int = 16) -> nn.Module:
    """A net that maps images [B, C, H, W] to [B, outputs].

    Args:
        input_shape: (C, H, W), both sides at least 8.
        outputs: classes, or numbers to predict.
        width: channels of the first layer; the second has twice as many.

    Raises:
        ValueError: the inputs are no images, or too small.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < 8:
        raise ValueError(f"image_cnn: expected inputs of shape (C, H, W), sides at least 8, got {tuple(input_shape)}")
    channels, height, width_px = input_shape
    return he_start(
        nn.Sequential(
            nn.Conv2d(channels, width, 5, padding=2),
            ranged_relu(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 5, padding=2),
            ranged_relu(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            ranged_logits(2 * width * (height // 4) * (width_px // 4), outputs),
        )
    )
