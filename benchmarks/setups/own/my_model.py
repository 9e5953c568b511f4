"""A residual net of two convolutions."""

import torch
from torch import nn


class Residual(nn.Module):
    def __init__(self, channels, outputs, width):
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.inner = nn.Conv2d(width, width, 3, padding=1)
        self.act = nn.ReLU()
        self.pool = nn.AvgPool2d(4)
        self.head = nn.Linear(width * 4, outputs)

    def forward(self, x):
        start = self.act(self.stem(x))
        deep = torch.relu(self.inner(start) + start)
        flat = torch.flatten(self.pool(deep), 1)
        return self.head(flat)


def residual(input_shape, outputs, width=6):
    return Residual(input_shape[0], outputs, width)
