"""Average pooling on a grid is integer arithmetic: ties are settled alike everywhere, and gradients stay the mean's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fl_core.quant.fake_quant import set_fake_quant
from fl_core.quant.graph import QatModel
from fl_core.quant.integer import integer_forward, quantize
from fl_core.quant.lower import lower
from fl_core.quant.prepare import prepare_qat
from fl_core.quant.spec import QuantSpec

BATCH, CHANNELS, SIDE = 5, 3, 9


@st.composite
def poolings(draw: st.DrawFn) -> nn.Module:
    rank = draw(st.sampled_from([1, 2]))
    kernel, stride = (tuple(draw(st.integers(1, 6)) for _ in range(rank)) for _ in range(2))
    padding = tuple(draw(st.integers(0, side // 2)) for side in kernel)
    return (nn.AvgPool1d, nn.AvgPool2d)[rank - 1](kernel, stride, padding)


def prepared(pooling: nn.Module, high: float, **spec: Any) -> tuple[QatModel, tuple[int, ...]]:
    """A model of the pooling alone, for inputs of -1 to ``high``."""
    shape = (CHANNELS, *(SIDE,) * len(pooling.kernel_size))
    return prepare_qat(nn.Sequential(pooling), QuantSpec(**spec), shape, (-1.0, high)), shape


def plain(pooling: nn.Module, x: Tensor) -> Tensor:
    pool = F.avg_pool1d if x.dim() == 3 else F.avg_pool2d
    return pool(x, pooling.kernel_size, pooling.stride, pooling.padding)


@settings(max_examples=100, deadline=None)
@given(poolings(), st.sampled_from(["asymmetric", "symmetric"]), st.floats(0.01, 100.0), st.integers(0, 2**16))
def test_forward_and_evaluator_agree_on_every_value(pooling: nn.Module, grid: str, high: float, seed: int) -> None:
    qat, shape = prepared(pooling, high, grid=grid)
    lowered = lower(qat)
    x = torch.rand(BATCH, *shape, generator=torch.Generator().manual_seed(seed)) * (high + 1) - 1
    target = lowered.tensors[lowered.output]
    expected = integer_forward(lowered, x.numpy())
    assert np.array_equal(quantize(qat(x).numpy(), target), expected[lowered.output])
    steps = torch.from_numpy(expected[lowered.input] - lowered.tensors[lowered.input].zero_point).double()
    exact = plain(pooling, steps).numpy() + target.zero_point
    assert np.abs(exact - expected[lowered.output]).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("pooling", [nn.AvgPool1d(2), nn.AvgPool2d((2, 1))], ids=["1d", "2d"])
@pytest.mark.parametrize("scale", [1.0, 0.1, 0.0317, 3.3e-4])
def test_every_tie_goes_to_even(pooling: nn.Module, scale: float) -> None:
    one_d = isinstance(pooling, nn.AvgPool1d)
    levels = torch.arange(-127.0, 127.0)
    pairs = torch.stack([levels, levels + 1], -1).flatten()
    shape = (1, len(pairs)) if one_d else (1, len(pairs), 1)
    qat = prepare_qat(nn.Sequential(pooling), QuantSpec(grid="symmetric"), shape, (-127 * scale, 127 * scale))
    got = qat(scale * pairs.reshape(1, *shape)) / lower(qat).tensors["input"].scale
    torch.testing.assert_close(got.flatten(), torch.round(levels + 0.5), rtol=0, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(poolings(), st.sampled_from(["fixed", "learned", "ema"]))
def test_the_gradient_is_that_of_the_plain_mean(pooling: nn.Module, ranges: str) -> None:
    qat, shape = prepared(pooling, 3.0, ranges=ranges)
    x = (torch.rand(BATCH, *shape) * 3.8 - 0.9).requires_grad_()
    upstream = torch.randn(plain(pooling, x).shape)
    (expected,) = torch.autograd.grad(plain(pooling, x), x, upstream)
    (got,) = torch.autograd.grad(qat(x), x, upstream)
    torch.testing.assert_close(got, expected)


@settings(max_examples=40, deadline=None)
@given(poolings())
def test_without_fake_quant_it_is_the_plain_mean(pooling: nn.Module) -> None:
    qat, shape = prepared(pooling, 3.0)
    set_fake_quant(qat, False)
    x = torch.randn(BATCH, *shape) * 10
    assert torch.equal(qat(x), plain(pooling, x))


@settings(max_examples=40, deadline=None)
@given(poolings(), st.integers(0, 2**16))
def test_a_mean_never_leaves_the_values_it_is_of(pooling: nn.Module, seed: int) -> None:
    assume(not any(pooling.padding))
    qat, shape = prepared(pooling, 3.0)
    x = torch.rand(BATCH, *shape, generator=torch.Generator().manual_seed(seed)) * 4 - 1
    tensors = qat.tensors(x)
    assert tensors["input"].amin() <= tensors[qat.output_name].amin()
    assert tensors[qat.output_name].amax() <= tensors["input"].amax()


def test_pooling_does_not_move_the_running_range_of_its_input() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU())
    pooled = nn.Sequential(*net, nn.AvgPool1d(2))
    x = torch.randn(20, 2, 8)
    found = []
    for model in (net, pooled):
        qat = prepare_qat(model, QuantSpec(ranges="ema"), (2, 8), (-3.0, 3.0)).train()
        qat(x)
        found.append(qat.grids["1"].qparams())
    assert found[0] == found[1]
    assert found[0].scale < 16.0 / 255  # it moved
