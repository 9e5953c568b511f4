"""The lowered model computes what was trained, and the float forward is the float model, over random small nets."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fl_core.quant.fake_quant import set_fake_quant
from fl_core.quant.integer import dequantize, integer_forward
from fl_core.quant.lower import lower
from fl_core.quant.prepare import prepare_qat
from fl_core.quant.ranges import calibrate
from fl_core.quant.spec import QuantSpec
from support.layer_lsb import layer_lsb

CHANNELS, SIDE = 4, 9
KINDS = ("plain", "depthwise", "norm", "residual", "concat", "hardswish", "sigmoid", "hardtanh", "max", "avg")


class Block(nn.Module):
    """One kind of block over [B, CHANNELS, SIDE, SIDE]; keeps the shape."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        groups = CHANNELS if kind == "depthwise" else 1
        width = 2 * CHANNELS if kind == "concat" else CHANNELS
        self.conv = nn.Conv2d(width, CHANNELS, 3, padding=1, groups=groups, bias=kind != "norm")
        self.act = {"hardswish": nn.Hardswish(), "sigmoid": nn.Sigmoid(), "hardtanh": nn.Hardtanh(-0.5, 1.5)}.get(
            kind, nn.ReLU6() if kind == "depthwise" else nn.ReLU()
        )
        if kind == "norm":
            self.norm = nn.BatchNorm2d(CHANNELS)
        self.pool = nn.MaxPool2d(3, 1, 1) if kind == "max" else nn.AvgPool2d(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "concat":
            return self.act(self.conv(torch.cat([x, self.pool(x)], dim=1)))
        y = self.conv(x)
        if self.kind == "norm":
            y = self.norm(y)
        if self.kind == "residual":
            y = y + x
        y = self.act(y)
        return self.pool(y) if self.kind in ("max", "avg") else y


class Net(nn.Module):
    def __init__(self, kinds: list[str]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, CHANNELS, 3, padding=1)
        self.blocks = nn.ModuleList(Block(kind) for kind in kinds)
        self.drop, self.pool = nn.Dropout(0.5), nn.AdaptiveAvgPool2d(3)
        self.head = nn.Linear(CHANNELS * 9, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(self.drop(torch.flatten(self.pool(x), 1)))


def make(kinds: list[str], seed: int) -> tuple[nn.Module, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    net = Net(kinds)
    for param in net.parameters():
        param.data = torch.randn(param.shape, generator=generator) * 0.4
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(CHANNELS, generator=generator)
            module.running_var = torch.rand(CHANNELS, generator=generator) + 0.1
    return net.eval(), torch.randn(4, 2, SIDE, SIDE, generator=generator)


nets = st.tuples(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3), st.integers(0, 2**16))
specs = st.builds(
    QuantSpec,
    weight_bits=st.integers(2, 8),
    grid=st.sampled_from(["asymmetric", "symmetric"]),
    ranges=st.sampled_from(["fixed", "learned", "ema", "public"]),
)


def prepared(case: tuple[list[str], int], spec: QuantSpec) -> tuple[Any, nn.Module, Tensor]:
    net, x = make(*case)
    ranges = None
    if spec.ranges == "public":
        ranges = calibrate(prepare_qat(net, spec, (2, SIDE, SIDE), (-3.0, 3.0)), x)
    qat = prepare_qat(net, spec, (2, SIDE, SIDE), (-3.0, 3.0), ranges)
    return qat, net, x


@settings(max_examples=80, deadline=None)
@given(nets, specs)
def test_every_layer_is_at_most_one_step_from_its_integer_form(case: tuple[list[str], int], spec: QuantSpec) -> None:
    qat, _, x = prepared(case, spec)
    lowered = lower(qat)
    worst = layer_lsb(qat, lowered, x.numpy())
    assert max(worst.values()) <= 1
    assert all(worst[node.name] == 0 for node in lowered.nodes if node.op in ("avg_pool", "max_pool", "flatten"))
    for name, q in integer_forward(lowered, x.numpy()).items():
        assert q.min() >= lowered.tensors[name].qmin
        assert q.max() <= lowered.tensors[name].qmax


@settings(max_examples=60, deadline=None)
@given(nets, specs)
def test_without_fake_quant_it_is_the_float_model(case: tuple[list[str], int], spec: QuantSpec) -> None:
    qat, net, x = prepared(case, spec)
    set_fake_quant(qat, False)
    expected = net(x).detach()
    torch.testing.assert_close(qat(x), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@settings(max_examples=20, deadline=None)
@given(nets, specs)
def test_the_output_of_an_example_does_not_depend_on_the_others(case: tuple[list[str], int], spec: QuantSpec) -> None:
    qat, _, x = prepared(case, spec)
    others = x.clone()
    others[1:] = others[1:] * 100 + 7
    torch.testing.assert_close(qat(x)[0], qat(others)[0], rtol=0, atol=0)


@settings(max_examples=20, deadline=None)
@given(nets, specs)
def test_the_whole_net_stays_close_to_its_integer_form(case: tuple[list[str], int], spec: QuantSpec) -> None:
    qat, _, x = prepared(case, spec)
    lowered = lower(qat)
    target = lowered.tensors[lowered.output]
    found = dequantize(integer_forward(lowered, x.numpy())[lowered.output], target)
    steps = np.abs(found - qat(x).detach().numpy()) / target.scale
    assert steps.mean() <= 1.0


@pytest.mark.parametrize("grid", ["asymmetric", "symmetric"])
def test_a_net_over_time_lowers_too(grid: Any) -> None:
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv1d(6, 8, 5, stride=2, padding="valid"), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 8, 3, padding="same"),
        nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(8, 8, 3, dilation=2, groups=4), nn.Hardswish(), nn.AdaptiveAvgPool1d(1),
        nn.Flatten(), nn.Linear(8, 4),
    ).eval()  # fmt: skip
    x = torch.randn(8, 6, 31)
    qat = prepare_qat(net, QuantSpec(grid=grid), (6, 31), (-3.0, 3.0))
    assert max(layer_lsb(qat, lower(qat), x.numpy()).values()) <= 1
    duplicate = copy.deepcopy(qat)
    torch.testing.assert_close(duplicate(x), qat(x), rtol=0, atol=0)
