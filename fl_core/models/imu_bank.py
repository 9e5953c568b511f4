"""Wrist movement for private training: fixed tone filters and a fixed mixing layer, then one trained linear layer.

    convolution (tones on single axes, on pairs of axes, posture; fixed) -> clamp -> average over time -> mixing
    (fixed) -> linear (trained)

Averages over the whole window do not depend on where in a movement the window began. A pair filter answers to two
axes that swing at one frequency with a given lag, which is how exercises differ. The clamp's ceiling turns strength
into share of time. Only the last layer is trained (after arXiv 2011.11660, without its normalisation by data).
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations

import numpy as np
from torch import nn

from fl_core.models.filters import Filters, low_pass, tone_bank
from fl_core.models.mixing import fixed, with_head, with_mixing
from fl_core.models.public_signals import movements

_FREQUENCIES_HZ = (0.5, 1.0, 2.0, 4.0, 8.0)
_LENGTH = 49
_CEILING = 0.5
"""Filters have norm 1 and signals lie in -1..1; a response above this counts as this."""
_POSTURE_GAIN = 3.0
_POSTURE_THRESHOLDS = (-0.5, -0.25, 0.0, 0.25, 0.5)
_PUBLIC_MOVEMENTS = 2000


def imu_bank(
    input_shape: tuple[int, ...], outputs: int, mixed: int = 256, shrink: float = 1.0, rate_hz: float = 50.0
) -> nn.Module:
    """The model for windows of several axes: from [B, C, T] in -1..1 to [B, outputs].

    Args:
        input_shape: (C, T), accelerometer axes first.
        outputs: classes.
        mixed: features that the trained layer sees.
        shrink: how little the mixing layer evens out, see ``mixing_layer``.
        rate_hz: samples per second.

    Raises:
        ValueError: the inputs are no windows of several axes.
    """
    if len(input_shape) != 2 or input_shape[0] < 2:
        raise ValueError(f"imu_bank: expected inputs of shape (C, T) with C at least 2, got {tuple(input_shape)}")
    return with_head(_fixed_part(input_shape[0], input_shape[1], mixed, shrink, rate_hz), outputs)


@lru_cache(maxsize=4)
def _fixed_part(axes: int, length: int, mixed: int, shrink: float, rate_hz: float) -> nn.Sequential:
    filters, thresholds = _bank(axes, rate_hz)
    bank = nn.Conv1d(axes, len(filters), _LENGTH, stride=2, padding=_LENGTH // 2)
    front = {
        "bank": fixed(bank, filters, -thresholds),
        "clamp": nn.Hardtanh(0.0, _CEILING),
        "pool": nn.AvgPool1d((length + 1) // 2),
        "flatten": nn.Flatten(),
    }
    return with_mixing(front, movements(_PUBLIC_MOVEMENTS, axes, length, rate_hz), mixed, shrink)


def _bank(axes: int, rate_hz: float) -> tuple[Filters, Filters]:
    """Filters [F, axes, _LENGTH] and their thresholds [F]."""
    tones = tone_bank(_LENGTH, _FREQUENCIES_HZ, rate_hz)
    posture = _POSTURE_GAIN * low_pass(_LENGTH, 25)
    filters, thresholds = [], []
    for axis in range(axes):
        for cosine, _ in tones:
            for sign in (1, -1):
                filters.append(_on(axes, {axis: sign * cosine}))
                thresholds.append(0.0)
        for threshold in _POSTURE_THRESHOLDS:
            for sign in (1, -1):
                filters.append(_on(axes, {axis: sign * posture}))
                thresholds.append(_POSTURE_GAIN * threshold)
    for first, second in combinations(range(axes), 2):
        for cosine, sine in tones:
            for sign in (1, -1):
                filters.append(_on(axes, {first: cosine, second: sign * sine}) / np.sqrt(2))
                thresholds.append(0.0)
    return np.stack(filters), np.array(thresholds)


def _on(axes: int, taps: dict[int, Filters]) -> Filters:
    """One filter [axes, _LENGTH] with these taps and zeros on the other axes."""
    filter_CL = np.zeros((axes, _LENGTH))
    for axis, values in taps.items():
        filter_CL[axis] = values
    return filter_CL
