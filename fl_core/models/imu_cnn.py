"""A small convolutional net for windows of movement data, all of it trained: 12 thousand parameters on six axes."""

from __future__ import annotations

from torch import nn


def imu_cnn(input_shape: tuple[int, ...], outputs: int, width: int = 24) -> nn.Module:
    """From windows [B, C, T] to [B, outputs].

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
    return nn.Sequential(
        nn.Conv1d(channels, width, 9, stride=2, padding=4),
        nn.ReLU(),
        nn.Conv1d(width, 2 * width, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(2 * width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool1d((length + 1) // 4),
        nn.Flatten(),
        nn.Linear(2 * width, outputs),
    )
