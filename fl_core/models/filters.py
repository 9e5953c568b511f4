"""Banks of fixed filters: Gabor filters for images, windowed sines for movement. All from formulas, none from data.

Under DP a first layer that is not trained costs no budget and gets no noise (the idea of scattering features under
DP, arXiv 2011.11660). It is a convolution like any other, so it becomes integer like any other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Filters = npt.NDArray[np.float64]


def gabor_bank(size: int, wavelengths_px: Sequence[float], orientations: int) -> Filters:
    """Filters [F, size, size] of mean 0 and norm 1: every orientation, wavelength, two phases, both signs."""
    axis = np.arange(size) - (size - 1) / 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    filters = []
    for wavelength in wavelengths_px:
        for turn in range(orientations):
            angle = math.pi * turn / orientations
            along = x * math.cos(angle) + y * math.sin(angle)
            across = y * math.cos(angle) - x * math.sin(angle)
            window = np.exp(-(along**2 + (0.6 * across) ** 2) / (2 * (0.5 * wavelength) ** 2))
            for phase in (0.0, math.pi / 2):
                wave = window * np.cos(2 * math.pi * along / wavelength + phase)
                wave -= window * (wave.sum() / window.sum())
                filters += [wave, -wave]
    bank = np.stack(filters)
    unit: Filters = bank / np.sqrt((bank**2).sum(axis=(1, 2), keepdims=True))
    return unit


def tone_bank(length: int, frequencies_hz: Sequence[float], rate_hz: float) -> Filters:
    """Pairs (cosine, sine) [F, 2, length] of mean 0 and norm 1 under a window that narrows as the frequency grows."""
    time_s = (np.arange(length) - (length - 1) / 2) / rate_hz
    ends = np.hanning(length + 2)[1:-1]
    pairs = []
    for frequency in frequencies_hz:
        window = ends * np.exp(-0.5 * (time_s * frequency / 0.6) ** 2)
        pair = []
        for phase in (0.0, -math.pi / 2):
            wave = window * np.cos(2 * math.pi * frequency * time_s + phase)
            wave -= window * (wave.sum() / window.sum())
            pair.append(wave / math.sqrt(float((wave**2).sum())))
        pairs.append(pair)
    return np.array(pairs)


def low_pass(length: int, width: int) -> Filters:
    """A smooth average [length] over ``width`` samples in the middle; sums to 1."""
    window = np.hanning(width + 2)[1:-1]
    taps = np.zeros(length)
    start = (length - width) // 2
    taps[start : start + width] = window / window.sum()
    return taps
