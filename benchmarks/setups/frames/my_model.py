"""An autoencoder of four linear layers."""

from math import prod

from torch import nn


def autoencoder(input_shape, outputs, bottleneck=4):
    inputs = prod(input_shape)
    last = nn.Linear(16, outputs)
    last.output_range = (-1.0, 1.0)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(inputs, 16),
        nn.ReLU(),
        nn.Linear(16, bottleneck),
        nn.Hardtanh(),
        nn.Linear(bottleneck, 16),
        nn.ReLU(),
        last,
    )
