"""What prepare_qat promises: names, frozen parts, which range each activation has, and refusals that name the layer."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fl_core.errors import ModelError, UnsupportedLayerError
from fl_core.quant.fake_quant import set_fake_quant
from fl_core.quant.graph import QatModel, activation_names
from fl_core.quant.lower import lower
from fl_core.quant.prepare import prepare_qat
from fl_core.quant.spec import QuantSpec
from support.layer_lsb import layer_lsb

SHAPE = (2, 8, 8)
RANGE = (-3.0, 3.0)


class Residual(nn.Module):
    """One ReLU module called twice; layers written in another order than they run; functional forms."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.body = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
        self.skip = nn.Conv2d(2, 4, 1, bias=False)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.body(x) + self.skip(x))
        y = self.relu(F.max_pool2d(y, 2, stride=2))
        y = F.dropout(y, 0.3, self.training)
        return self.head(y.mean((2, 3)).view(y.size(0), -1))


def prepare(net: nn.Module, shape: tuple[int, ...] = SHAPE, **spec: Any) -> QatModel:
    return prepare_qat(net, QuantSpec(**spec), shape, RANGE)


def scale_of(qat: QatModel, name: str) -> float:
    return qat.grids[name].qparams().scale


def bounds_of(qat: QatModel, name: str) -> tuple[float, float]:
    p = qat.grids[name].qparams()
    return p.scale * (p.qmin - p.zero_point), p.scale * (p.qmax - p.zero_point)


def test_state_dict_names_and_order_are_the_float_models() -> None:
    net = Residual()
    qat = prepare(net)
    assert list(qat.state_dict()) == list(net.state_dict())
    assert not list(qat.buffers())
    for name, value in net.state_dict().items():
        assert torch.equal(value, qat.state_dict()[name])


def test_the_float_model_stays_as_it_is() -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    qat = prepare(net)
    with torch.no_grad():
        for param in qat.parameters():
            param.add_(1.0)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_functional_forms_and_a_shared_relu_are_understood() -> None:
    net = Residual().eval()
    qat = prepare(net)
    x = torch.randn(3, *SHAPE)
    assert max(layer_lsb(qat, lower(qat), x.numpy()).values()) <= 1
    set_fake_quant(qat, False)
    torch.testing.assert_close(qat(x), net(x), rtol=1e-5, atol=1e-6)


def test_functional_dropout_drops_in_training_alone() -> None:
    qat = prepare(Residual())
    x = torch.randn(3, *SHAPE)
    assert not torch.equal(qat(x), qat(x))
    qat.eval()
    assert torch.equal(qat(x), qat(x))


def test_frozen_parameters_stay_frozen_and_are_quantized() -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    net[0].weight.requires_grad_(False)
    qat = prepare(net, weight_bits=3)
    assert [name for name, p in qat.named_parameters() if not p.requires_grad] == ["0.weight"]
    node = lower(qat).nodes[0]
    assert node.weight is not None
    assert abs(node.weight).max() == 3
    assert node.bias is None


def test_a_folded_norm_leaves_a_bias_and_stays_frozen() -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    for _ in range(3):
        net(torch.randn(8, *SHAPE) * 2 + 1)
    net.eval()
    qat = prepare(net)
    set_fake_quant(qat, False)
    x = torch.randn(4, *SHAPE)
    torch.testing.assert_close(qat(x), net(x), rtol=1e-5, atol=1e-5)
    assert list(qat.state_dict()) == ["0.weight", "0.bias", "4.weight", "4.bias"]


def test_a_folded_norm_does_not_follow_the_data() -> None:
    conv = nn.Conv2d(2, 4, 3).requires_grad_(False)
    qat = prepare(nn.Sequential(conv, nn.BatchNorm2d(4), nn.ReLU())).train()
    before = {name: value.clone() for name, value in qat.state_dict().items()}
    first = qat(torch.ones(2, *SHAPE))
    qat(torch.randn(8, *SHAPE) * 50 + 9)
    assert torch.equal(qat(torch.ones(2, *SHAPE)), first)
    assert all(torch.equal(value, before[name]) for name, value in qat.state_dict().items())
    assert not any(p.requires_grad for p in qat.parameters())


def test_ranges_come_from_argument_then_hint_then_bounds_then_defaults() -> None:
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU6(), nn.Conv2d(4, 4, 3), nn.Hardtanh(),
        nn.Flatten(), nn.Linear(16, 8), nn.Linear(8, 3),
    )  # fmt: skip
    qat = prepare(net)
    assert activation_names(qat) == ["input", "1", "3", "5", "7", "8"]
    wanted = {"1": (0, 8), "3": (0, 6), "5": (-1, 1), "7": (-8, 8), "8": (-16, 16), "input": RANGE}
    for name, (low, high) in wanted.items():
        assert bounds_of(qat, name) == pytest.approx((low, high), abs=scale_of(qat, name))
    net[0].output_range = (-2.0, 4.0)  # type: ignore[assignment]
    net[8].output_range = (-5.0, 5.0)  # type: ignore[assignment]
    qat = prepare_qat(net, QuantSpec(), SHAPE, RANGE, {"7": (-1.0, 3.0), "2": (-9.0, 2.0), "8": (-7.0, 7.0)})
    for name, (low, high) in {"1": (0, 4), "3": (0, 2), "7": (-1, 3), "8": (-7, 7)}.items():
        assert bounds_of(qat, name) == pytest.approx((low, high), abs=scale_of(qat, name))


def test_pooling_flatten_and_equal_concat_cost_no_grid() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3), nn.Linear(36, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.cat((torch.relu(self.a(x)), F.relu(self.b(x))), dim=-3)
            return self.head(F.avg_pool2d(y, 2).flatten(1))

    assert len(activation_names(prepare(Net()))) == 4
    learned = prepare(Net(), ranges="learned")
    assert "cat" in activation_names(learned)


def test_bits_can_be_given_by_layer() -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    lowered = lower(prepare(net, weight_bits=4, per_layer={"3": 2}))
    assert [node.weight_bits for node in lowered.nodes if node.weight is not None] == [4, 2]
    assert [abs(node.weight).max() for node in lowered.nodes if node.weight is not None] == [7, 1]


def test_quantization_can_be_off_from_the_start() -> None:
    net = Residual().eval()
    x = torch.randn(3, *SHAPE)
    torch.testing.assert_close(prepare(net, enabled=False)(x), net(x), rtol=1e-5, atol=1e-6)


class Calls(nn.Module):
    """A convolution, then any function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(2, 2, 3, padding=1), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x))


@pytest.mark.parametrize(
    ("net", "layer", "instead"),
    [
        (nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4)), "layer 1:", "BatchNorm directly after"),
        (nn.Sequential(nn.Conv2d(2, 4, 3), nn.LayerNorm(6)), "layer 1:", "BatchNorm directly after"),
        (nn.Sequential(nn.Flatten(), nn.LSTM(128, 4)), "layer 1:", "Conv1d over time"),
        (nn.Sequential(nn.Flatten(), nn.GRU(128, 4)), "layer 1:", "Conv1d over time"),
        (nn.Sequential(nn.Flatten(), nn.Linear(128, 3), nn.Softmax(1)), "layer 2:", "leave it to the loss"),
        (nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)), "layer 2:", "directly follow"),
        (nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 4, 3)), "layer 0:", "directly follow"),
        (nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)), "layer 1:", "statistics"),
        (nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect")), "layer 0:", "padding_mode"),
        (nn.Sequential(nn.Conv2d(2, 4, 2, padding="same")), "layer 0:", "odd kernel"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(3)), "layer 0:", "divides"),
        (nn.Sequential(nn.MaxPool2d(3, ceil_mode=True)), "layer 0:", "ceil_mode"),
        (nn.Sequential(nn.AvgPool2d(3, padding=1, count_include_pad=False)), "layer 0:", "counts its padding"),
        (nn.Sequential(nn.Linear(8, 3)), "layer 0:", "Flatten"),
        (nn.Sequential(nn.Hardtanh(0.5, 1.0)), "layer 0:", "zero"),
        (Calls(torch.sin), "layer sin:", "use Conv1d, Conv2d, Linear"),
        (Calls(lambda x: x.cumsum(1)), "layer cumsum:", "use Conv1d, Conv2d, Linear"),
        (Calls(F.gelu), "layer gelu:", "Hardswish"),
        (Calls(lambda x: x * x), "layer mul:", "product"),
        (Calls(lambda x: x + 1.0), "layer add:", "bias of the layer before"),
        (Calls(lambda x: x.transpose(2, 3)), "layer transpose:", "Flatten"),
        (Calls(lambda x: x.mean(1)), "layer mean:", "all axes"),
        (Calls(lambda x: x.chunk(2, 1)[0]), "layer chunk:", "a layer of its own"),
        (Calls(lambda x: x[:, :1]), "layer getitem:", "a layer of its own"),
        (Calls(lambda x: F.conv2d(x, torch.ones(2, 2, 1, 1))), "layer _tensor_constant0:", "nn.Conv2d"),
        (Calls(lambda x: x if x.sum() > 0 else -x), "model Calls", "without branches"),
        (Calls(lambda x: (x, x)), "model", "one output tensor"),
    ],
)
def test_what_cannot_become_integer_is_refused_by_name(net: nn.Module, layer: str, instead: str) -> None:
    with pytest.raises(UnsupportedLayerError) as caught:
        prepare(net)
    assert layer in str(caught.value)
    assert instead in str(caught.value)


def test_attention_is_refused() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attend = nn.MultiheadAttention(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.attend(x, x, x)[0]

    with pytest.raises(UnsupportedLayerError, match=r"layer attend: MultiheadAttention .* pooling over time"):
        prepare(Attends(), (4, 8))


def test_a_layer_called_twice_is_refused() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.conv(x))

    with pytest.raises(UnsupportedLayerError, match="layer conv: called twice"):
        prepare(Twice())


@pytest.mark.parametrize(
    ("net", "spec", "ranges", "message"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3)), {}, {}, "does not run on inputs of shape"),
        (nn.Sequential(nn.Conv2d(2, 4, 3)), {"per_layer": {"conv": 4}}, {}, r"quant.per_layer: expected .*\['0'\]"),
        (nn.Sequential(nn.Conv2d(2, 4, 3)), {}, {"relu": (0.0, 1.0)}, "ranges: expected .*'relu'"),
        (nn.Sequential(nn.Conv2d(2, 4, 3)), {}, {"0": (0.0, math.nan)}, "activation 0: expected a finite range"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    net: nn.Module, spec: dict[str, Any], ranges: dict[str, tuple[float, float]], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        prepare_qat(net, QuantSpec(**spec), SHAPE, RANGE, ranges)


def test_an_unused_layer_and_an_unused_parameter_are_refused_by_name() -> None:
    net = Calls(F.relu)
    net.unused = nn.Linear(2, 2)
    net.spare = nn.Parameter(torch.ones(3))
    with pytest.raises(ModelError) as caught:
        prepare(net)
    assert sorted(caught.value.problems) == [
        "layer unused: has parameters, but the forward never calls it",
        "parameter spare: is there, but the forward never uses it",
    ]


def test_a_weight_that_is_not_finite_is_not_lowered() -> None:
    qat = prepare(nn.Sequential(nn.Conv2d(2, 4, 3)))
    with torch.no_grad():
        next(qat.parameters()).fill_(math.nan)
    with pytest.raises(ModelError, match=r"tensor 0.weight: must be finite"):
        lower(qat)
