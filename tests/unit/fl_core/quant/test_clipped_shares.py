"""The share of an activation's values that its range cuts off, counted by hand: those before it are cut as well."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fl_core.quant.prepare import prepare_qat
from fl_core.quant.ranges import clipped_shares
from fl_core.quant.spec import QuantSpec


def scaled_identity(factor: float) -> nn.Sequential:
    """Two layers of one weight each: the hidden value is ``factor`` times the input, the output that once more."""
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        net[0].weight.fill_(factor)
        net[1].weight.fill_(1.0)
    return net


@pytest.mark.parametrize("grid", ["asymmetric", "symmetric"])
def test_shares_are_those_of_values_that_nothing_rounds(grid: str) -> None:
    x = torch.linspace(-1, 1, 401).unsqueeze(1)
    model = prepare_qat(scaled_identity(16.0), QuantSpec(grid=grid), (1,), (-1.0, 1.0), {"0": (-4.0, 4.0)})
    shares = clipped_shares(model, x, batch_size=100)
    assert shares["input"] == 0.0
    assert shares["0"] == pytest.approx(0.75, abs=0.01)  # of -16 to 16 a quarter lies within -4 to 4
    assert shares["1"] == pytest.approx(0.0, abs=0.01)


def test_a_layer_gets_what_the_ranges_before_it_have_left() -> None:
    x = torch.linspace(-1, 1, 401).unsqueeze(1)
    ranges = {"0": (-4.0, 4.0), "1": (-4.0, 4.0)}
    shares = clipped_shares(prepare_qat(scaled_identity(16.0), QuantSpec(), (1,), (-1.0, 1.0), ranges), x)
    assert shares["0"] == pytest.approx(0.75, abs=0.01)
    assert shares["1"] == 0.0


def test_counting_leaves_the_model_as_it_was() -> None:
    model = prepare_qat(scaled_identity(16.0), QuantSpec(), (1,), (-1.0, 1.0))
    x = torch.linspace(-1, 1, 32).unsqueeze(1)
    before = model(x)
    clipped_shares(model, x)
    assert torch.equal(model(x), before)
    assert model.training


def test_a_relu_cuts_nothing_off_below_zero() -> None:
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        net[0].weight.fill_(4.0)
    shares = clipped_shares(prepare_qat(net, QuantSpec(), (1,), (-1.0, 1.0)), torch.linspace(-1, 1, 64).unsqueeze(1))
    assert shares["1"] == 0.0
