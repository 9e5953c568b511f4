"""Per-example gradients through Opacus' hooks equal those of a batch-of-one loop, for every kind of quantized layer.

float64 throughout, so that a sum that is computed in another order does not fall on the other side of a rounding tie.
"""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn

from fl_core.privacy.grad_samplers import SAMPLERS, register_grad_samplers
from fl_core.quant.graph import QatModel
from fl_core.quant.layers import QLayer
from fl_core.quant.prepare import prepare_qat
from fl_core.quant.spec import QuantSpec

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing")
BATCH = 5

specs = st.builds(
    QuantSpec,
    weight_bits=st.integers(2, 8),
    grid=st.sampled_from(["asymmetric", "symmetric"]),
    ranges=st.sampled_from(["fixed", "learned"]),
)


@st.composite
def convolutions(draw: Any, rank: int) -> tuple[nn.Module, tuple[int, ...]]:
    groups = draw(st.sampled_from([1, 1, 2, 4]))
    channels_in, channels_out = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 3))
    side = st.tuples(*[st.integers(1, 3)] * rank)
    kernel, stride, dilation = draw(side), draw(side), draw(st.tuples(*[st.integers(1, 2)] * rank))
    padding = draw(st.tuples(*[st.integers(0, 2)] * rank))
    kind = nn.Conv1d if rank == 1 else nn.Conv2d
    conv = kind(channels_in, channels_out, kernel, stride, padding, dilation, groups, draw(st.booleans()))
    return conv, (channels_in, *draw(st.tuples(*[st.integers(5, 8)] * rank)))


def check(model: nn.Module, spec: QuantSpec, shape: tuple[int, ...], seed: int, frozen: str = "") -> None:
    generator = torch.Generator().manual_seed(seed)
    for param in model.parameters():
        param.data.normal_(0.0, 0.5, generator=generator)
    qat = prepare_qat(model, spec, shape, (-2.0, 2.0)).double()
    for name, param in qat.named_parameters():
        if name.endswith("log_scale"):
            param.data.normal_(-1.0, 0.5, generator=generator)
        param.requires_grad_(not frozen or frozen not in name)
    x = torch.randn(BATCH, *shape, generator=generator, dtype=torch.float64) * 2
    y = torch.randint(0, 3, (BATCH,), generator=generator)
    expected = one_by_one(qat, x, y)
    register_grad_samplers()
    wrapped = GradSampleModule(qat)
    nn.functional.cross_entropy(wrapped(x), y).backward()
    for name, param in qat.named_parameters():
        if param.requires_grad:
            torch.testing.assert_close(param.grad_sample, expected[name], rtol=1e-6, atol=1e-9, msg=name)
        else:
            assert getattr(param, "grad_sample", None) is None


def one_by_one(qat: QatModel, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    rows: dict[str, list[Tensor]] = {name: [] for name, param in qat.named_parameters() if param.requires_grad}
    for i in range(len(x)):
        qat.zero_grad()
        nn.functional.cross_entropy(qat(x[i : i + 1]), y[i : i + 1]).backward()
        for name, param in qat.named_parameters():
            if param.requires_grad:
                rows[name].append(torch.zeros_like(param) if param.grad is None else param.grad.clone())
    qat.zero_grad()
    return {name: torch.stack(values) for name, values in rows.items()}


def features(conv: nn.Module, shape: tuple[int, ...]) -> int:
    return int(conv(torch.zeros(1, *shape)).numel())


def fits(conv: nn.Module, shape: tuple[int, ...]) -> bool:
    try:
        return features(conv, shape) > 0
    except RuntimeError:
        return False


@settings(max_examples=80, deadline=None)
@given(convolutions(1), specs, st.integers(0, 2**16))
def test_conv1d(case: tuple[nn.Module, tuple[int, ...]], spec: QuantSpec, seed: int) -> None:
    conv, shape = case
    if fits(conv, shape):
        check(nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(features(conv, shape), 3)), spec, shape, seed)


@settings(max_examples=80, deadline=None)
@given(convolutions(2), specs, st.integers(0, 2**16), st.sampled_from(["", "bias", "0.weight"]))
def test_conv2d(case: tuple[nn.Module, tuple[int, ...]], spec: QuantSpec, seed: int, frozen: str) -> None:
    conv, shape = case
    if fits(conv, shape):
        net = nn.Sequential(conv, nn.Hardtanh(), nn.Flatten(), nn.Linear(features(conv, shape), 3))
        check(net, spec, shape, seed, frozen)


class Mixed(nn.Module):
    """A residual add, a concat, a shared pooling grid and a table: one quantizer is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depth = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.point, self.head = nn.Conv2d(4, 4, 1), nn.Linear(32, 3)
        self.relu = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        y = self.relu(self.depth(x) + x)
        z = torch.cat([y, nn.functional.hardswish(self.point(y))], 1)
        return self.head(nn.functional.avg_pool2d(z, 3).flatten(1))


@settings(max_examples=25, deadline=None)
@given(specs, st.integers(0, 2**16))
def test_a_net_with_branches(spec: QuantSpec, seed: int) -> None:
    check(Mixed(), spec, (2, 6, 6), seed)


def test_an_empty_batch_has_gradients_of_no_examples() -> None:
    register_grad_samplers()
    qat = prepare_qat(Mixed(), QuantSpec(ranges="learned"), (2, 6, 6), (-2.0, 2.0))
    for module in qat.modules():
        sampler = SAMPLERS.get(type(module))
        if sampler is not None:
            x, backprops = torch.zeros(0, 4, 6, 6), torch.zeros(0, 4, 6, 6)
            if isinstance(module, QLayer) and module.weight.dim() == 2:
                x, backprops = torch.zeros(0, 32), torch.zeros(0, 3)
            for param, sample in sampler(module, [x], backprops).items():
                assert sample.shape == (0, *param.shape)


def test_without_a_sampler_the_gradients_fail_loudly() -> None:
    """An unregistered sampler must never mean silent zeros."""
    qat = prepare_qat(Mixed(), QuantSpec(), (2, 6, 6), (-2.0, 2.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = GradSampleModule(qat, force_functorch=True)
        with pytest.raises(TypeError, match="input_scale"):
            wrapped(torch.zeros(2, 2, 6, 6)).sum().backward()
