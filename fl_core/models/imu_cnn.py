"""A small convolutional net for windows of movement data, all of it trained: 20 thousand parameters on six axes."""

from __future__ import annotations

from torch import nn

from fl_core.models.start import he_start, ranged_logits, ranged_relu


def imu_cnn(input_shape: tuple[int, ...], outputs: int, width: int = 24) -> nn.Module:
    """A net that maps windows [B, C, T] to [B, outputs].

    Args:
        input_shape: (C, T), T at least 16.
        outputs: classes, or numbers to predict.
        width: channels of the first layer; the next two have twice as many.

    Raises:
        ValueError: the inputs are no windows, or too short.
    """
    if len(input_shape) != 2 or input_shape[1] < 16:
        raise ValueError(f"imu_cnn: expected inputs of shape (C, T) with T at least 16, got {tuple(input_shape)}")
    channels, length = input_shape
    # A first filter of a third of a second at 50 Hz: shorter ones see too little of a slow movement.
    return he_start(
        nn.Sequential(
            nn.Conv1d(channels, width, 17, stride=2, padding=8),
            ranged_relu(),
            nn.Conv1d(width, 2 * width, 5, padding=2),
            ranged_relu(),
            nn.MaxPool1d(2),
            nn.Conv1d(2 * width, 2 * width, 5, padding=2),
            ranged_relu(),
            nn.AvgPool1d((length + 1) // 4),
            nn.Flatten(),
            ranged_logits(2 * width, outputs),
        )
    )
