"""A small convolution net."""

from torch import nn


def net(input_shape, outputs, width=8):
    channels, samples = input_shape
    return nn.Sequential(
        nn.Conv1d(channels, width, kernel_size=5, padding=2),
        nn.ReLU(),
        nn.MaxPool1d(4),
        nn.Flatten(),
        nn.Linear(width * (samples // 4), outputs),
    )
