"""Grids, rounding and gradients of fake quantization, against hand-computed values and torch's own operator."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_core.quant.fake_quant import (
    ActivationQuantizer,
    EmaRange,
    FixedRange,
    LearnedRange,
    fake_quant_weight,
    integer_bias,
    integer_weight,
    make_qparams,
    set_fake_quant,
    weight_scale,
)
from fl_core.quant.spec import GridKind

RELU = (0.0, math.inf)
INPUT_SCALE = torch.tensor(0.05)
KINDS: list[type[FixedRange] | type[LearnedRange] | type[EmaRange]] = [FixedRange, LearnedRange, EmaRange]
finite = st.floats(-100, 100, allow_nan=False, width=32)


@pytest.mark.parametrize(
    ("lo", "hi", "grid", "clamp", "expected"),
    [
        (0.0, 255.0, "asymmetric", RELU, (1.0, 0, 0, 255, "uint8")),
        (-1.0, 254.0, "asymmetric", (-math.inf, math.inf), (1.0, 1, 0, 255, "uint8")),
        (-127.0, 3.0, "symmetric", (-math.inf, math.inf), (1.0, 0, -127, 127, "int8")),
        (0.0, 127.0, "symmetric", RELU, (1.0, 0, 0, 127, "int8")),
        (-300.0, 127.0, "symmetric", (-64.0, math.inf), (1.0, 0, -64, 127, "int8")),
        (5.0, 510.0, "asymmetric", (-math.inf, math.inf), (2.0, 0, 0, 255, "uint8")),
    ],
)
def test_a_range_becomes_this_grid(
    lo: float, hi: float, grid: GridKind, clamp: tuple[float, float], expected: tuple[float, int, int, int, str]
) -> None:
    p = make_qparams(lo, hi, grid, clamp)
    assert (p.scale, p.zero_point, p.qmin, p.qmax, p.dtype) == expected


@pytest.mark.parametrize(("lo", "hi"), [(0.0, 0.0), (math.nan, 1.0), (0.0, math.inf), (0.0, 1e-30)])
def test_an_empty_range_is_refused(lo: float, hi: float) -> None:
    with pytest.raises(ValueError, match="finite range"):
        make_qparams(lo, hi, "asymmetric")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grid", ["asymmetric", "symmetric"])
@settings(max_examples=40, deadline=None)
@given(finite, st.floats(0.01, 100), st.sampled_from([(-math.inf, math.inf), RELU, (-1.0, 6.0)]))
def test_zero_lies_on_every_grid(
    kind: type[FixedRange], grid: GridKind, lo: float, width: float, clamp: tuple[float, float]
) -> None:
    hi = max(lo + width, 0.5)
    quantizer = kind(lo, hi, grid, clamp).eval()
    p = quantizer.qparams()
    assert p.qmin <= p.zero_point <= p.qmax
    assert (p.zero_point == 0 and p.qmin >= -127) or grid == "asymmetric"
    assert quantizer(torch.zeros(1, 3)).tolist() == [[0.0, 0.0, 0.0]]
    whole = torch.arange(p.qmin - p.zero_point, p.qmax - p.zero_point + 1.0).unsqueeze(0) * p.scale
    torch.testing.assert_close(quantizer(whole), whole, rtol=1e-6, atol=0)  # what lies on the grid stays


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grid", ["asymmetric", "symmetric"])
@settings(max_examples=40, deadline=None)
@given(st.lists(finite, min_size=1, max_size=50), st.floats(0.1, 50), st.floats(0.1, 50))
def test_activations_round_and_saturate_as_torch_does(
    kind: type[FixedRange], grid: GridKind, values: list[float], below: float, above: float
) -> None:
    quantizer = kind(-below, above, grid).eval()
    p = quantizer.qparams()
    x = torch.tensor(values).unsqueeze(0)
    expected = torch.fake_quantize_per_tensor_affine(x, p.scale, p.zero_point, p.qmin, p.qmax)
    torch.testing.assert_close(quantizer(x), expected, rtol=0, atol=1e-6 * below)


@pytest.mark.parametrize("kind", KINDS)
def test_ties_go_to_even(kind: type[FixedRange]) -> None:
    quantizer = kind(-128.0, 127.0, "asymmetric").eval()
    x = torch.tensor([[-1.5, -0.5, 0.5, 1.5, 2.5]])
    assert quantizer(x).tolist() == [[-2.0, 0.0, 0.0, 2.0, 2.0]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("clamp", [RELU, (-math.inf, math.inf), (-1.0, 1.0)])
def test_gradient_is_one_inside_and_zero_where_a_value_saturates(
    kind: type[FixedRange], clamp: tuple[float, float]
) -> None:
    quantizer: ActivationQuantizer = kind(-4.0, 4.0, "symmetric", clamp).eval()
    low, high = max(-4.0, clamp[0]), min(4.0, clamp[1])
    x = torch.tensor([[low - 1, low - 1e-3, (low + high) / 2, high + 1e-3, high + 9]], requires_grad=True)
    quantizer(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([0.0, 0.0, 1.0, 0.0, 0.0]) or x.grad[0].tolist() == pytest.approx(
        [0.0, 0.0, 1.0, 0.0, 0.0]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_switched_off_only_the_activation_function_is_left(kind: type[FixedRange]) -> None:
    x = torch.randn(3, 7) * 20
    for clamp, function in ((RELU, torch.relu), ((-1.0, 2.0), lambda v: v.clamp(-1, 2)), ((-math.inf, math.inf), abs)):
        quantizer = kind(-4.0, 4.0, "asymmetric", clamp).eval()
        quantizer.fake_quant = False
        expected = x if function is abs else function(x)
        assert torch.equal(quantizer(x), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grid", ["asymmetric", "symmetric"])
def test_saturating_float_differs_from_the_grid_by_rounding_alone(kind: type[FixedRange], grid: str) -> None:
    quantizer = kind(-3.0, 4.0, grid).eval()
    x = torch.linspace(-9, 9, 999)
    rounded = quantizer(x).detach()
    set_fake_quant(quantizer, False, saturate=True)
    floating = quantizer(x).detach()
    assert float((rounded - floating).abs().max()) <= quantizer.qparams().scale * 0.5001
    ends = floating.unique()[[0, -1]]
    assert ends.tolist() == pytest.approx(rounded.unique()[[0, -1]].tolist())


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 8), st.integers(0, 2**16))
def test_weights_take_the_narrow_grid_of_their_channel(bits: int, seed: int) -> None:
    weight = torch.randn(4, 3, 3, generator=torch.Generator().manual_seed(seed))
    scale_O = weight_scale(weight, None, INPUT_SCALE, bits)
    top = 2 ** (bits - 1) - 1
    expected = torch.fake_quantize_per_channel_affine(weight, scale_O, torch.zeros(4, dtype=torch.int32), 0, -top, top)
    quantized, _ = fake_quant_weight(weight, None, INPUT_SCALE, bits)
    assert torch.equal(quantized, expected)
    assert integer_weight(weight, scale_O).abs().flatten(1).amax(1).tolist() == [top] * 4


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 8), st.integers(0, 2**16))
def test_quantizing_twice_changes_nothing(bits: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight, bias = torch.randn(4, 5, generator=generator), torch.randn(4, generator=generator)
    once = fake_quant_weight(weight, bias, INPUT_SCALE, bits)
    assert once[1] is not None
    twice = fake_quant_weight(*once, INPUT_SCALE, bits)
    assert twice[1] is not None
    torch.testing.assert_close(twice[0], once[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(twice[1], once[1], rtol=1e-6, atol=1e-9)


def test_weight_and_bias_get_the_whole_gradient() -> None:
    weight, bias = torch.randn(3, 4, requires_grad=True), torch.randn(3, requires_grad=True)
    quantized, quantized_bias = fake_quant_weight(weight, bias, INPUT_SCALE, 2)
    assert quantized_bias is not None
    (quantized.sum() + quantized_bias.sum()).backward()
    assert torch.equal(weight.grad, torch.ones(3, 4))
    assert torch.equal(bias.grad, torch.ones(3))


def test_a_channel_without_weights_keeps_its_bias() -> None:
    weight, bias = torch.zeros(2, 3), torch.tensor([0.7, 0.0])
    quantized, quantized_bias = fake_quant_weight(weight, bias, INPUT_SCALE, 8)
    torch.testing.assert_close(quantized_bias, bias, rtol=1e-6, atol=1e-9)
    assert torch.equal(quantized, weight)


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-12, 1e6), st.floats(-1e6, 1e6), st.floats(1e-6, 10))
def test_a_bias_always_fits_int32(largest: float, value: float, scale: float) -> None:
    weight, bias = torch.tensor([[largest, -largest]]), torch.tensor([value])
    scale_O = weight_scale(weight, bias, torch.tensor(scale), 8)
    q = integer_bias(bias, scale_O, torch.tensor(scale)).numpy().astype(np.int64)
    assert abs(int(q[0])) <= 2**30
    assert float(q[0]) * float(scale_O[0]) * scale == pytest.approx(value, rel=1e-5, abs=largest * scale)


def test_a_learned_scale_stays_positive_and_within_its_activation() -> None:
    quantizer = LearnedRange(-8.0, 8.0, "asymmetric", (0.0, 6.0))
    for value in (-1e4, -3.0, 0.0, 3.0, 1e4):
        quantizer.log_scale.data.fill_(value)
        assert 0.0 < quantizer.qparams().scale <= 6.0 / 255 + 1e-6
        assert float(quantizer(torch.full((1, 4), 100.0)).detach().max()) <= 6.0 + 1e-5


def test_a_learned_scale_shrinks_when_all_values_are_small() -> None:
    torch.manual_seed(0)
    quantizer = LearnedRange(-8.0, 8.0, "asymmetric")
    x = torch.randn(32, 64) * 0.1
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.05)
    first = float((quantizer(x) - x).square().mean().detach())
    for _ in range(200):
        optimizer.zero_grad()
        (quantizer(x) - x).square().mean().backward()
        optimizer.step()
    assert float((quantizer(x) - x).square().mean().detach()) < first / 10


def test_a_running_range_follows_training_batches_until_it_is_frozen() -> None:
    quantizer = EmaRange(-8.0, 8.0, "symmetric")
    x = torch.linspace(-1, 2, 50).unsqueeze(0)
    quantizer.eval()(x)
    assert float(quantizer.high) == 8.0
    quantizer.train()
    for _ in range(200):
        quantizer(x)
    assert float(quantizer.low) == pytest.approx(-1.0, abs=1e-3)
    assert float(quantizer.high) == pytest.approx(2.0, abs=1e-3)
    quantizer.eval()
    quantizer(x * 10)
    assert float(quantizer.high) == pytest.approx(2.0, abs=1e-3)
