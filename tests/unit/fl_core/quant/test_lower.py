"""What lower promises: the integers of the forward itself, one node for each step that is left, and clear refusals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fl_core.errors import ModelError
from fl_core.quant.fake_quant import EmaRange, LearnedRange
from fl_core.quant.graph import QatModel, activation_names
from fl_core.quant.integer import dequantize, integer_forward
from fl_core.quant.lower import lower
from fl_core.quant.prepare import prepare_qat
from fl_core.quant.spec import QuantSpec

SHAPE = (2, 12)


def small_net(**spec: Any) -> QatModel:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Dropout(0.5), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(20, 3), nn.Dropout(0.5)
    )  # fmt: skip
    return prepare_qat(net, QuantSpec(**spec), SHAPE, (-3.0, 3.0))


def test_dropout_is_gone_wherever_it_stands() -> None:
    lowered = lower(small_net())
    assert [node.op for node in lowered.nodes] == ["conv", "avg_pool", "flatten", "linear"]
    assert lowered.nodes[1].inputs == (lowered.nodes[0].output,)
    assert lowered.output == lowered.nodes[-1].output
    assert set(lowered.tensors) == {lowered.input, *(node.output for node in lowered.nodes)}


@pytest.mark.parametrize("grid", ["asymmetric", "symmetric"])
@pytest.mark.parametrize("bits", range(2, 9))
def test_weights_are_the_integers_that_the_forward_multiplies_with(bits: int, grid: str) -> None:
    qat = small_net(weight_bits=bits, grid=grid)
    for node in lower(qat).nodes:
        if node.weight is None:
            continue
        assert node.weight_scale is not None
        assert node.bias is not None
        assert (node.weight.dtype, node.weight_scale.dtype, node.bias.dtype) == (np.int8, np.float32, np.int32)
        assert node.weight_bits == bits
        assert np.unique(np.abs(node.weight)).size <= 2 ** (bits - 1)
        input_scale = qat.grids[node.inputs[0]].scale()
        weight, bias = qat.get_submodule(node.name).operands(input_scale)
        assert bias is not None
        scale_O = node.weight_scale.reshape(-1, *[1] * (node.weight.ndim - 1))
        np.testing.assert_array_equal(weight.detach().numpy(), node.weight.astype(np.float32) * scale_O)
        bias_scale_O = np.float32(input_scale) * node.weight_scale
        np.testing.assert_array_equal(bias.detach().numpy(), node.bias.astype(np.float32) * bias_scale_O)


def test_learned_ranges_are_lowered_as_they_are_now() -> None:
    qat = small_net(ranges="learned").eval()
    x = torch.randn(200, *SHAPE)
    ranges = [param for name, param in qat.named_parameters() if name.startswith("act_quant")]
    before = lower(qat).tensors
    optimizer = torch.optim.Adam(ranges, lr=0.05)
    for _ in range(20):
        optimizer.zero_grad()
        (qat(x) - 0.01 * x.mean()).square().mean().backward()
        assert all(torch.isfinite(param.grad).all() for param in ranges)
        optimizer.step()
    lowered = lower(qat)
    learned = [name for name in activation_names(qat) if isinstance(qat.grids[name], LearnedRange)]
    assert len(learned) == len(ranges) == 2
    for name in learned:
        now = lowered.tensors[name]
        assert now.scale > 0.0
        assert now.scale != before[name].scale
        assert now == qat.grids[name].qparams()
        assert now.zero_point == before[name].zero_point
    target = lowered.tensors[lowered.output]
    expected = dequantize(integer_forward(lowered, x.numpy())[lowered.output], target)
    steps = (qat(x).detach().numpy() - expected) / target.scale
    assert np.abs(steps).max() <= 1.01
    assert np.mean(np.abs(steps) < 0.5) > 0.99


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_refused_by_name(bad: float) -> None:
    qat = small_net(ranges="learned")
    with torch.no_grad():
        qat.get_submodule("5").bias.fill_(bad)
    with pytest.raises(ModelError, match=r"tensor 5\.bias: must be finite"):
        lower(qat)
    ema = small_net(ranges="ema")
    grid = ema.grids["1"]
    assert isinstance(grid, EmaRange)
    grid.high.fill_(bad)
    with pytest.raises(ModelError, match=r"tensor act_quant\..*high: must be finite"):
        lower(ema)


def test_a_float_model_is_refused() -> None:
    with pytest.raises(ModelError, match="model Sequential: expected one made by prepare_qat"):
        lower(nn.Sequential(nn.Linear(3, 3)))
