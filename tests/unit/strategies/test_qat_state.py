"""Averaging the state of quantization-aware training: learned scales, and clients of several weight widths."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import model as build

from fl_core.models.weights import load_tensors, trainable_tensors
from fl_core.quant.fake_quant import LearnedRange
from fl_core.quant.prepare import prepare_qat
from fl_core.quant.spec import QuantSpec
from fl_core.tree import digest
from fl_core.types import ClientUpdate, Part
from strategies.fedavg import FedAvg

SHAPE = (2, 8)


def scale_of(log_scale: float) -> float:
    """The scale that a learned range has with this parameter."""
    grid = LearnedRange(-1.0, 1.0, "asymmetric")
    load_tensors(grid, {"log_scale": np.array([log_scale], np.float32)})
    return float(grid.scale())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(-6.0, 6.0), st.integers(1, 100)), min_size=1, max_size=6))
def test_the_mean_of_learned_scales_is_their_geometric_mean(clients):
    strategy = FedAvg()
    state = strategy.init({"log_scale": np.zeros(1, np.float32)})
    for number, (log_scale, weight) in enumerate(clients):
        parts = {"delta": Part({"log_scale": np.array([log_scale], np.float32)})}
        state = strategy.accumulate(state, ClientUpdate("t", f"c{number}", 0, parts, weight, 1))
    mean = float(strategy.finish(state).model["log_scale"][0])
    total = sum(weight for _, weight in clients)
    geometric = math.exp(sum(weight * math.log(scale_of(value)) for value, weight in clients) / total)
    assert scale_of(mean) == pytest.approx(geometric, rel=1e-5)


def test_a_mean_of_wide_and_narrow_scales_lies_between_them_in_factors():
    assert scale_of((math.log(8) + math.log(1 / 2)) / 2) == pytest.approx(2 * scale_of(0.0))


def test_learned_scales_and_weights_mean_the_same_at_every_width():
    """So their mean is defined: only the grid of the weights differs."""
    wide, narrow = (
        prepare_qat(_built(), QuantSpec(weight_bits=bits, ranges="learned"), SHAPE, (-1.0, 1.0)) for bits in (8, 3)
    )
    assert digest(trainable_tensors(wide)) == digest(trainable_tensors(narrow))
    moved = {name: t + np.float32(0.1) for name, t in trainable_tensors(wide).items()}
    for model in (wide, narrow):
        load_tensors(model, moved)
    for name, grid in wide.grids.items():
        assert grid.qparams() == narrow.grids[name].qparams()
    x = torch.linspace(-1, 1, 64).reshape(4, *SHAPE)
    assert not torch.equal(wide(x), narrow(x))


def _built() -> torch.nn.Module:
    torch.manual_seed(5)
    return build(SHAPE, 3)
