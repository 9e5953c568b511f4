"""Measured ranges: public calibration, and histograms whose sensitivity is what they state."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fl_core.parts import BIN_EDGES
from fl_core.quant.fake_quant import FakeQuantized
from fl_core.quant.graph import QatModel
from fl_core.quant.prepare import prepare_qat
from fl_core.quant.ranges import calibrate, range_histograms, ranges_from_histogram
from fl_core.quant.spec import QuantSpec


def small_net(ranges: str = "fixed") -> QatModel:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Dropout(0.5), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(12, 3)
    )  # fmt: skip
    return prepare_qat(net, QuantSpec(ranges=ranges), (2, 8), (-3.0, 3.0))  # type: ignore[arg-type]


def test_calibrated_ranges_are_the_extremes_of_the_float_forward() -> None:
    qat, x = small_net(), torch.randn(50, 2, 8)
    conv, linear = qat.get_submodule("0").requires_grad_(False), qat.get_submodule("5").requires_grad_(False)
    hidden = torch.relu(nn.functional.conv1d(x, conv.weight, conv.bias))
    out = nn.functional.linear(nn.functional.avg_pool1d(hidden, 2).flatten(1), linear.weight, linear.bias)
    found = calibrate(qat, x, batch_size=7)
    assert found["1"] == pytest.approx((0.0, float(hidden.max())), rel=1e-5)
    assert found["5"] == pytest.approx((float(out.min()), float(out.max())), rel=1e-5)
    assert set(found) == {"1", "5"}


def test_measuring_leaves_the_model_as_it_was() -> None:
    qat = small_net("ema")
    before = {name: value.clone() for name, value in qat.state_dict().items()}
    calibrate(qat, torch.randn(9, 2, 8) * 50)
    range_histograms(qat, torch.randn(9, 2, 8) * 50)
    assert qat.training
    assert all(module.fake_quant for module in qat.modules() if isinstance(module, FakeQuantized))
    assert all(torch.equal(value, before[name]) for name, value in qat.state_dict().items())


@pytest.mark.parametrize("odd", [0.0, 1.0, 1e30, float("inf"), float("nan")])
def test_one_example_moves_the_histograms_by_their_stated_sensitivity(odd: float) -> None:
    qat, x = small_net(), torch.randn(20, 2, 8)
    x[7] = odd
    everyone = range_histograms(qat, x)
    without = range_histograms(qat, torch.cat([x[:7], x[8:]]))
    moved = np.concatenate([everyone.counts[name] - without.counts[name] for name in everyone.counts])
    assert np.linalg.norm(moved) == pytest.approx(everyone.l2_sensitivity)
    assert np.abs(moved).sum() == pytest.approx(everyone.l1_sensitivity)


def test_a_range_covers_its_quantile_and_little_more() -> None:
    counts = np.zeros(len(BIN_EDGES))
    counts[[3, 10, 20]] = [50, 49, 1]
    assert ranges_from_histogram({"a": counts}, 0.99)["a"] == (-BIN_EDGES[10], BIN_EDGES[10])
    assert ranges_from_histogram({"a": counts}, 1.0)["a"][1] == BIN_EDGES[20]
    assert ranges_from_histogram({"a": counts}, 0.3)["a"][1] == BIN_EDGES[3]
    assert ranges_from_histogram({"a": -counts}) == {}
    with pytest.raises(ValueError, match="quantile"):
        ranges_from_histogram({"a": counts}, 0.0)


def test_measured_ranges_fit_prepare() -> None:
    qat, x = small_net(), torch.randn(40, 2, 8)
    ranges = ranges_from_histogram(range_histograms(qat, x).counts)
    net = nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Dropout(0.5), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(12, 3)
    )  # fmt: skip
    again = prepare_qat(net, QuantSpec(ranges="dp_histogram"), (2, 8), (-3.0, 3.0), ranges)
    p = again.grids["1"].qparams()
    assert p.zero_point == p.qmin
    assert p.scale * 255 == pytest.approx(ranges["1"][1], rel=1e-6)
