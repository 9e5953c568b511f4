"""Measures activation ranges: on public examples as they are, on private ones as histograms that can be noised.

A histogram counts examples: each example adds exactly one count per activation tensor, in the bin of its own largest
magnitude. The bins are public constants. So adding or removing one example changes T tensors' counts by 1 each: L1
sensitivity T, L2 sensitivity sqrt(T). No noise is added here; the caller adds it and accounts for it. The forward is
float and in eval mode, where one example's activations do not depend on another's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from fl_core.parts import BIN_EDGES
from fl_core.quant.fake_quant import ActivationQuantizer, EmaRange, FakeQuantized, Range, ends, set_fake_quant
from fl_core.quant.graph import QatModel, activation_names
from fl_core.quant.lowered import QParams

BinCounts = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RangeHistograms:
    """Counts [len(BIN_EDGES)] by activation name, before any noise, and how far one example can move them."""

    counts: Mapping[str, BinCounts]

    @property
    def l2_sensitivity(self) -> float:
        """L2 norm of what adding or removing one example changes, over all counts taken as one vector."""
        return math.sqrt(len(self.counts))

    @property
    def l1_sensitivity(self) -> float:
        """L1 norm of that change; noise of whole numbers (arXiv 2110.04995) is sized by both norms."""
        return float(len(self.counts))


def measured_activations(model: QatModel) -> list[str]:
    """Activations whose range is measured on examples: neither the input, whose range is public, nor the output, whose
    constant has to hold for the logits of a trained model."""
    ends = {id(model.grids[model.input_name]), id(model.grids[model.output_name])}
    return [name for name in activation_names(model) if id(model.grids[name]) not in ends]


def running_activations(model: QatModel) -> list[str]:
    """Activations whose range follows the batches of training; none unless ranges are ``ema``."""
    return [name for name in activation_names(model) if isinstance(model.grids[name], EmaRange)]


def calibrate(model: QatModel, x: Tensor, batch_size: int = 256) -> dict[str, Range]:
    """Lowest and highest value of each activation in the float forward, for ``prepare_qat``'s ``ranges``.

    The input is left out: its range is known without looking. Only for public examples ``x`` [N, *input_shape]: a
    raw range tells of single examples. An activation that is never anything but zero is left out and keeps its
    default.
    """
    found: dict[str, Range] = {}
    names = [name for name in activation_names(model) if name != model.input_name]
    for tensors in _float_activations(model, names, x, batch_size):
        for name, value in tensors.items():
            low, high = float(value.amin()), float(value.amax())
            before = found.get(name, (low, high))
            found[name] = (min(before[0], low), max(before[1], high))
    return {name: bounds for name, bounds in found.items() if bounds[0] < 0.0 or bounds[1] > 0.0}


def clipped_shares(model: QatModel, x: Tensor, batch_size: int = 64) -> dict[str, float]:
    """For each activation the share of its values that its range cuts off, 0 to 1, where all before it are cut as well.

    What lies within half a step of an end is rounded and not cut. Only for examples ``x`` [N, *input_shape] that are
    public or the server's own.
    """
    names = activation_names(model)
    cut, seen = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    with _float_eval(model), torch.no_grad():
        for at in range(0, len(x), batch_size):
            for name, value, grid in _before_cut(model, x[at : at + batch_size]):
                low, high = ends(grid)
                room = grid.scale / 2
                cut[name] += int(((value < low - room) | (value > high + room)).sum())
                seen[name] += value.numel()
    return {name: cut[name] / max(seen[name], 1) for name in names}


def _before_cut(model: QatModel, x: Tensor) -> Iterator[tuple[str, Tensor, QParams]]:
    """Each activation just before its range cuts it off, and its grid."""
    grid = model.grids[model.input_name].qparams()
    yield model.input_name, x, grid
    values = {model.input_name: F.hardtanh(x, *ends(grid))}
    for step in model.steps:
        value = model.run_step(step, [values[name] for name in step.inputs])
        if step.requantize:
            grid = model.grids[step.output].qparams()
            yield step.output, value, grid
            value = F.hardtanh(value, *ends(grid))
        values[step.output] = value


def range_histograms(model: QatModel, x: Tensor, batch_size: int = 256) -> RangeHistograms:
    """One histogram for each of ``measured_activations``, over the examples ``x`` [N, *input_shape]."""
    names = measured_activations(model)
    counts = {name: np.zeros(len(BIN_EDGES)) for name in names}
    for tensors in _float_activations(model, names, x, batch_size):
        for name in names:
            largest_B = tensors[name].flatten(1).abs().amax(1).double().numpy()
            bins = np.minimum(np.searchsorted(BIN_EDGES, largest_B), len(BIN_EDGES) - 1)
            counts[name] += np.bincount(bins, minlength=len(BIN_EDGES))
    return RangeHistograms(counts)


def ranges_from_histogram(noisy_counts: Mapping[str, BinCounts], quantile: float = 0.99) -> dict[str, Range]:
    """A range [-h, h] by activation name: h is the edge below which ``quantile`` of the noisy counts lie.

    Negative counts are taken as 0; an activation with no count left is left out. Post-processing: costs no privacy.

    Raises:
        ValueError: ``quantile`` is not in (0, 1].
    """
    if not 0.0 < quantile <= 1.0:
        raise ValueError(f"quantile must be in (0, 1], got {quantile}")
    ranges: dict[str, Range] = {}
    for name, counts in noisy_counts.items():
        cumulative = np.cumsum(np.maximum(counts, 0.0))
        if cumulative[-1] > 0.0:
            edge = float(BIN_EDGES[int(np.searchsorted(cumulative, quantile * cumulative[-1] * (1 - 1e-12)))])
            ranges[name] = (-edge, edge)
    return ranges


def _float_activations(
    model: QatModel, names: Sequence[str], x: Tensor, batch_size: int
) -> Iterator[dict[str, Tensor]]:
    with _float_eval(model), torch.no_grad():
        for at in range(0, len(x), batch_size):
            tensors = model.tensors(x[at : at + batch_size])
            yield {name: tensors[name] for name in names}


@contextmanager
def _float_eval(model: QatModel) -> Iterator[None]:
    """Fake-quant off, no activation cut, and eval mode for a while; each switch back as it was after."""
    switches = [(m, m.fake_quant) for m in model.modules() if isinstance(m, FakeQuantized)]
    cut = [(m, m.saturate) for m in model.modules() if isinstance(m, ActivationQuantizer)]
    was_training = model.training
    model.eval()
    set_fake_quant(model, False)
    try:
        yield
    finally:
        model.train(was_training)
        for module, enabled in switches:
            module.fake_quant = enabled
        for quantizer, saturate in cut:
            quantizer.saturate = saturate
