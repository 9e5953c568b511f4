"""A fixed linear layer that centres features and evens out their directions, from public signals alone.

Features of a filter bank share a large mean and a few strong directions. Both take most of the norm that clipping
allows and leave little for what tells classes apart. This layer takes the mean away and turns the features onto their
principal directions, each divided by sqrt(variance + shrink * mean variance) (a softened whitening). The mean length
of its output is 1 on the public signals, so that one clip norm and one learning rate fit every bank.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from fl_core.models.start import ranged_logits
from fl_core.types import Array, FloatArray

Layer = TypeVar("Layer", nn.Linear, nn.Conv1d, nn.Conv2d)

_GRID = 2.0**-20
"""Weights lie on this grid: linear algebra differs in its last bits between machines, and the layer must not."""


def mixing_layer(feature_ND: FloatArray, outputs: int, shrink: float) -> nn.Linear:
    """Frozen linear layer from D features to min(outputs, D) mixed ones.

    Args:
        feature_ND: features of N public signals.
        outputs: directions kept, the strongest first.
        shrink: 0 whitens fully; large values only centre and turn.
    """
    feature = feature_ND.astype(np.float64)
    mean_D = feature.mean(axis=0)
    centred = feature - mean_D
    variance, direction = np.linalg.eigh(centred.T @ centred / len(centred))
    variance, direction = variance[::-1].clip(min=0), direction[:, ::-1]
    kept = min(outputs, feature.shape[1])
    # An eigenvector's sign is arbitrary; its largest entry is made positive.
    largest = np.abs(direction).argmax(axis=0)
    direction = direction * np.sign(direction[largest, np.arange(len(largest))])
    weight_KD = (direction[:, :kept] / np.sqrt(variance[:kept] + shrink * variance.mean())).T
    weight_KD /= np.linalg.norm(centred @ weight_KD.T, axis=1).mean()
    weight_KD = np.round(weight_KD / _GRID) * _GRID
    bias_K = np.round(-(weight_KD @ mean_D) / _GRID) * _GRID
    layer = nn.Linear(feature.shape[1], kept)
    mixed_NK = feature @ weight_KD.T + bias_K
    # Room for inputs that are stronger than any public signal, as a round number.
    bound = float(np.ceil(1.25 * np.abs(mixed_NK).max() * 16) / 16)
    layer.output_range = (-bound, bound)  # type: ignore[assignment]
    return fixed(layer, weight_KD, bias_K)


def with_mixing(front: Mapping[str, nn.Module], public_NX: FloatArray, outputs: int, shrink: float) -> nn.Sequential:
    """The layers of ``front``, then the mixing layer ``mix`` that fits what they make of public signals."""
    model = nn.Sequential(OrderedDict(front))
    with torch.no_grad():
        chunks = [model(torch.from_numpy(public_NX[at : at + 100])).numpy() for at in range(0, len(public_NX), 100)]
    model.add_module("mix", mixing_layer(np.concatenate(chunks), outputs, shrink))
    return model


def with_head(fixed_part: nn.Sequential, outputs: int) -> nn.Sequential:
    """A copy of the fixed part that ends in a trained layer ``head``.

    The head begins at zero: its problem is convex, so no start is better, and none has less noise to undo.
    """
    model = copy.deepcopy(fixed_part)
    mix = model[-1]
    assert isinstance(mix, nn.Linear)
    head = ranged_logits(mix.out_features, outputs)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    model.add_module("head", head)
    return model


def fixed(layer: Layer, weight: Array, bias: Array) -> Layer:
    """``layer`` with these values, which no training changes."""
    with torch.no_grad():
        for param, value in ((layer.weight, weight), (layer.bias, bias)):
            assert param is not None
            param.copy_(torch.from_numpy(value.astype(np.float32)))
            param.requires_grad_(False)
    return layer
