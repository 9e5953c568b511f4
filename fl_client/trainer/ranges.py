"""What a client says of its activations: running ranges without DP, noisy histograms under DP, and nothing else."""

from __future__ import annotations

import numpy as np
import torch

from fl_core.quant.fake_quant import EmaRange
from fl_core.quant.graph import QatModel
from fl_core.quant.ranges import range_histograms, running_activations
from fl_core.rng import NoiseSource
from fl_core.types import DpTerms, FloatArray


def running_ranges(model: QatModel) -> dict[str, FloatArray]:
    """[low, high] of every running range, float32 [2] by activation name."""
    found = {}
    for name in running_activations(model):
        grid = model.grids[name]
        assert isinstance(grid, EmaRange)
        found[name] = np.array([float(grid.low), float(grid.high)], dtype=np.float32)
    return found


def noisy_histograms(model: QatModel, x: FloatArray, terms: DpTerms, noise: NoiseSource) -> dict[str, FloatArray]:
    """Counts of examples by the magnitude of their activations, each with Gaussian noise, by activation name.

    The standard deviation is ``noise_multiplier * clip_norm``, where ``clip_norm`` must be at least the histograms'
    own L2 sensitivity.
    """
    histograms = range_histograms(model, torch.from_numpy(x))
    std = terms.noise_multiplier * max(terms.clip_norm, histograms.l2_sensitivity)
    return {
        name: (counts + std * noise.normal(0, name, counts.shape)).astype(np.float32)
        for name, counts in sorted(histograms.counts.items())
    }
