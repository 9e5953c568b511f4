"""The autoencoder of MLPerf Tiny's anomaly detection (arXiv 2106.07597), without its normalisation.

Linear layers of 128 with a bottleneck of 8; what it reconstructs badly is unusual. Use it with the task
``reconstruction``.
"""

from __future__ import annotations

import math
from itertools import pairwise

from torch import nn

from fl_core.models.start import he_start


def autoencoder(
    input_shape: tuple[int, ...],
    outputs: int,
    width: int = 128,
    bottleneck: int = 8,
    output_range: tuple[float, float] = (-1.0, 1.0),
) -> nn.Module:
    """A net that maps inputs [B, ...] to what it makes of them [B, outputs].

    Args:
        input_shape: any shape; it is flattened.
        outputs: values of one example (640 in the benchmark).
        width: units of the hidden layers.
        bottleneck: units of the narrowest one.
        output_range: bounds of the outputs, which decide the step of their grid: those of the inputs.

    Raises:
        ValueError: there are other than as many outputs as inputs.
    """
    inputs = math.prod(input_shape)
    if outputs != inputs:
        raise ValueError(f"autoencoder: expected as many outputs as inputs, {inputs}, got {outputs}")
    sizes = [inputs, width, width, width, width, bottleneck, width, width, width, width]
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    last = nn.Linear(width, outputs)
    last.output_range = tuple(output_range)  # type: ignore[assignment]
    return he_start(nn.Sequential(*layers, last))
