"""A model that is prepared computes what its author's module does in eager mode, or is refused where they part."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fl_core.errors import ModelError, UnsupportedLayerError
from fl_core.models import MODELS, build_model
from fl_core.quant.faithful import checked_outputs
from fl_core.quant.prepare import trace_model

SHAPE = (2, 8)
RANGE = (-1.0, 1.0)
X = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0)) * 2 - 1


class Net(nn.Module):
    """A forward that may see that it is traced."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.last = nn.Conv1d(2, 4, 3, padding=1), nn.ReLU(), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.act(self.change(self.conv(x))).flatten(1))

    def change(self, x: Tensor) -> Tensor:
        return x


class Halved(Net):
    def change(self, x: Tensor) -> Tensor:
        return x * 0.5 if torch.is_tensor(x) else x


class HalvedLater(Net):
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.act(self.conv(x)).flatten(1)
        return self.last(hidden * 0.5 if torch.is_tensor(hidden) else hidden)


class Random(Net):
    def change(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x) if torch.is_tensor(x) else x


class BehindTheLast(Net):
    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return out - 1.0 if torch.is_tensor(out) else out


class Reversed(torch.autograd.Function):
    """Gradient reversal: nothing in the forward pass, the sign in the backward pass."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.contiguous()

    @staticmethod
    def backward(ctx: object, slope: Tensor) -> Tensor:
        return -slope


class FixedBatch(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.act(self.conv(x)).view(2, -1))


def test_a_plain_net_passes_with_its_outputs() -> None:
    net = Net()
    found = checked_outputs(trace_model(net, SHAPE), X, RANGE)
    torch.testing.assert_close(found, net(X))


def test_a_folded_norm_is_the_same_to_rounding() -> None:
    net = nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))
    for _ in range(5):
        net(torch.randn(16, *SHAPE) * 3 + 1)
    checked_outputs(trace_model(net, SHAPE), X, RANGE)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Halved(), "layer act: .*differ by .* the same up to the model's input"),
        (HalvedLater(), "layer last: .* the same up to layer act"),
        (BehindTheLast(), "model BehindTheLast: .* behind layer last"),
        (Random(), "model Random: gives other results each time"),
        (FixedBatch(), "model FixedBatch: in eager mode: "),
    ],
)
def test_another_function_is_refused_at_the_first_layer_that_differs(net: nn.Module, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        checked_outputs(trace_model(net, SHAPE), X, RANGE)
    assert len(caught.value.problems) == 1


def in_training(net: Net, x: Tensor) -> Tensor:
    return x + x if net.training else x


def without_gradient(net: Net, x: Tensor) -> Tensor:
    with torch.no_grad():
        return net.act(x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (in_training, "does not do the same in training as in evaluation, first at layer add"),
        (lambda net, x: F.dropout(x, 0.5), "layer dropout: drops in evaluation as well"),
        (without_gradient, r"layer act: under torch.no_grad\(\)"),
        (lambda net, x: Reversed.apply(x), "function Reversed has a gradient of its own, which would be lost at"),
        (lambda net, x: net.missing(x), r"its forward fails at .*test_faithful.py, line \d+.*: AttributeError"),
        (lambda net, x: nn.Linear(8, 8)(x), "makes a layer or a parameter at .*; make it in __init__"),
        (lambda net, x: x if x.mean() > 0 else -x, r"fixed list of operations at .*test_faithful.py, line \d+"),
    ],
)
def test_what_a_trace_would_lose_is_refused(change: object, message: str) -> None:
    Changing = type("Changing", (Net,), {"change": lambda self, x: change(self, x)})
    with pytest.raises(UnsupportedLayerError, match=message):
        trace_model(Changing(), SHAPE)


def test_other_functions_keep_their_gradients_after_a_trace() -> None:
    x = torch.ones(3, requires_grad=True)
    trace_model(Net(), SHAPE)
    Reversed.apply(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [-1.0] * 3


def test_values_that_are_not_finite_are_named() -> None:
    net = Net()
    with torch.no_grad():
        net.last.bias[0] = torch.nan
    with pytest.raises(ModelError, match=r"got some that are not; last.bias holds such values"):
        checked_outputs(trace_model(net, SHAPE), X, RANGE)


def test_dropout_by_a_function_is_read_as_it_is_in_training() -> None:
    Sometimes = type("Sometimes", (Net,), {"change": lambda self, x: F.dropout(x, 0.5, self.training)})
    Never = type("Never", (Net,), {"change": lambda self, x: F.dropout(x, 0.5, False)})
    assert [op.kind for op in trace_model(Sometimes(), SHAPE).graph.ops].count("dropout") == 1
    assert [op.kind for op in trace_model(Never(), SHAPE).graph.ops].count("dropout") == 0


SMALL = {
    "imu_cnn": (6, 100),
    "imu_bank": (6, 100),
    "image_cnn": (1, 28, 28),
    "ds_cnn": (1, 49, 10),
    "resnet8": (3, 32, 32),
}


@pytest.mark.parametrize("name", sorted(SMALL))
def test_shipped_nets_are_what_they_were(name: str) -> None:
    assert name in MODELS
    net = build_model(name, None, {}, SMALL[name], 5, 0)
    checked_outputs(trace_model(net, SMALL[name]), torch.rand(3, *SMALL[name]), (0.0, 1.0))
