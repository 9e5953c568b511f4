"""What a client says of its activations: running ranges without DP, noisy histograms under DP, and nothing else."""

from __future__ import annotations

import numpy as np
import torch

from fl_core.quant.fake_quant import EmaRange
from fl_core.quant.graph import QatModel, activation_names
from fl_core.quant.ranges import range_histograms
from fl_core.rng import NoiseSource
from fl_core.types import DpTerms, FloatArray


def running_ranges(model: QatModel) -> dict[str, FloatArray]:
    """[low, high] of every running range, float32 [2] by activation name."""
    found = {}
    for name in activation_names(model):
        grid = model.grids[name]
        if isinstance(grid, EmaRange):
            found[name] = np.array([float(grid.low), float(grid.high)], dtype=np.float32)
    return found


def noisy_histograms(model: QatModel, x: FloatArray, terms: DpTerms, noise: NoiseSource) -> dict[str, FloatArray]:
    """Counts of examples by the magnitude of their activations, each with Gaussian noise, by activation name.

    Neither input nor output is measured: the one is public, the other has a constant. The standard deviation is
    ``noise_multiplier * clip_norm``, where ``clip_norm`` must be at least the histograms' own L2 sensitivity.
    """
    ends = {id(model.grids[model.input_name]), id(model.grids[model.output_name])}
    histograms = range_histograms(model, torch.from_numpy(x))
    names = [name for name in sorted(histograms.counts) if id(model.grids[name]) not in ends]
    std = terms.noise_multiplier * max(terms.clip_norm, float(np.sqrt(max(len(names), 1))))
    return {
        name: (histograms.counts[name] + std * noise.normal(0, name, histograms.counts[name].shape)).astype(np.float32)
        for name in names
    }
