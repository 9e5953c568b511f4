"""Refusals name every layer at once, and what they say to use instead is accepted."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fl_core.errors import UnsupportedLayerError
from fl_core.quant.prepare import prepare_qat
from fl_core.quant.refusals import INSTEAD
from fl_core.quant.spec import QuantSpec

SHAPE = (4, 8)


class Calls(nn.Module):
    """Two convolutions of one input, then any function of their results."""

    def __init__(self, function: Callable[..., Tensor], *more: nn.Module) -> None:
        super().__init__()
        self.a, self.b, self.function = nn.Conv1d(4, 4, 3, padding=1), nn.Conv1d(4, 4, 3, padding=1), function
        self.more = nn.ModuleList(more)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.a(x), self.b(x), *self.more)


def problems_of(net: nn.Module, shape: tuple[int, ...] = SHAPE) -> tuple[str, ...]:
    with pytest.raises(UnsupportedLayerError) as caught:
        prepare_qat(net, QuantSpec(), shape, (-1.0, 1.0))
    return caught.value.problems


def test_all_layers_are_named_at_once() -> None:
    net = nn.Sequential(
        nn.BatchNorm1d(4), nn.Conv1d(4, 4, 3), nn.GroupNorm(2, 4), nn.Tanh(),
        nn.Conv1d(4, 4, 3, padding_mode="circular"), nn.ReLU(), nn.BatchNorm1d(4), nn.LSTM(4, 2),
    )  # fmt: skip
    assert [problem.split(":")[0] for problem in problems_of(net)] == [
        "layer 2", "layer 3", "layer 4", "layer 7", "layer 0", "layer 6",
    ]  # fmt: skip


def test_what_only_follows_from_a_refused_layer_is_not_named() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.last = nn.LSTM(8, 8, batch_first=True), nn.Linear(32, 3)

        def forward(self, x: Tensor) -> Tensor:
            out, _ = self.lstm(x)
            return self.last(out.flatten(1))

    problems = problems_of(Recurrent())
    assert len(problems) == 1
    assert "torch" not in problems[0]


def test_a_parameter_of_its_own_is_named_once() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.scale = nn.Conv1d(4, 4, 1), nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x) * self.scale

    assert [problem.split(":")[0] for problem in problems_of(Scaled())] == ["layer scale"]


def test_a_layer_with_a_forward_of_its_own_is_named_once() -> None:
    class Standardised(nn.Conv1d):
        def forward(self, x: Tensor) -> Tensor:
            return F.conv1d(x, self.weight - self.weight.mean((1, 2), keepdim=True), self.bias)

    assert problems_of(nn.Sequential(Standardised(4, 4, 3))) == (
        "layer 0: Standardised is a Conv1d with a forward of its own; use nn.Conv1d itself",
    )


@pytest.mark.parametrize(
    ("function", "layer", "words"),
    [
        (lambda a, b: a + 0.5 * b, "layer mul:", "put the factor into the initial weight"),
        (lambda a, b: a / 2 + b, "layer truediv:", "put the factor into the initial weight"),
        (lambda a, b: -a, "layer neg:", "put the factor into the initial weight"),
        (lambda a, b: a * b, "layer mul:", "a product of two activations"),
        (lambda a, b: a * a, "layer mul:", "a product of two activations"),
        (lambda a, b: a - b, "layer sub:", "carry the sign"),
        (lambda a, b: a[:, :2], "layer getitem:", "give each part a layer of its own"),
        (lambda a, b: a.chunk(2, 1)[0], "layer chunk:", "give each part a layer of its own"),
        (lambda a, b: F.hardsigmoid(a), "layer hardsigmoid:", "use Hardtanh or Sigmoid"),
        (lambda a, b: a.unsqueeze(1), "layer unsqueeze:", "let the data give its examples with that axis"),
        (lambda a, b: a.double(), "layer double:", "leave tensors in float32"),
        (lambda a, b: a.detach(), "layer detach:", "requires_grad_(False)"),
        (lambda a, b: a + torch.ones_like(a), "layer ones_like:", "bias of a layer"),
        (lambda a, b: a.T, "layer getattr_1:", "T cannot become integer"),
        (lambda a, b: a + 1.0, "layer add:", "put it into the bias of the layer before"),
        (lambda a, b: torch.add(a, b, alpha=0.5), "layer add:", "without alpha"),
        (lambda a, b: a + b.mean(2, keepdim=True), "layer add:", "of equal shape, got [4, 8] and [4, 1]"),
    ],
)
def test_a_refusal_fits_the_operation(function: Callable[..., Tensor], layer: str, words: str) -> None:
    assert any(layer in problem and words in problem for problem in problems_of(Calls(function)))


INPUT = nn.Sequential(nn.Conv1d(4, 4, 3, padding=1))
IMAGES = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1))
LAST = nn.Sequential(nn.Flatten(), nn.Linear(32, 3))
ACCEPTED: dict[str, list[nn.Module]] = {
    "GroupNorm": [nn.Sequential(INPUT, LAST), nn.Sequential(INPUT, nn.BatchNorm1d(4), LAST)],
    "LSTM": [nn.Sequential(nn.Conv1d(4, 6, 5, padding=2), nn.AdaptiveAvgPool1d(1), nn.Flatten())],
    "MultiheadAttention": [INPUT, nn.Sequential(INPUT, nn.AdaptiveMaxPool1d(1))],
    "Softmax": [LAST],
    "GELU": [nn.Sequential(INPUT, nn.ReLU(), nn.ReLU6(), nn.Hardswish())],
    "Tanh": [nn.Sequential(INPUT, nn.Hardtanh()), nn.Sequential(INPUT, nn.Sigmoid())],
    "mul": [Calls(lambda a, b: a + b), Calls(lambda a, b: torch.cat((a, b), 1))],
    "(factor)": [Calls(lambda a, b: a + b)],
    "sub": [Calls(lambda a, b: a + b)],
    "pad": [INPUT],
    "permute": [LAST],
    "unsqueeze": [nn.Sequential(nn.Conv2d(4, 2, 3), nn.Flatten())],
    "chunk": [Calls(lambda a, b: torch.relu(a) + b), nn.Sequential(INPUT, nn.AdaptiveAvgPool1d(1))],
    "amax": [nn.Sequential(INPUT, nn.AdaptiveMaxPool1d(1), nn.Flatten())],
    "sum": [nn.Sequential(INPUT, nn.AdaptiveAvgPool1d(1), nn.Flatten())],
    "interpolate": [Calls(lambda a, b: F.max_pool1d(a, 2) + F.avg_pool1d(b, 2))],
    "double": [INPUT],
    "detach": [nn.Sequential(nn.Conv1d(4, 4, 3).requires_grad_(False), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))],
    "ones_like": [nn.Sequential(nn.Conv1d(4, 4, 3, bias=True), nn.Dropout(0.1))],
    "ConvTranspose1d": [INPUT],
    "ConvTranspose2d": [IMAGES],
    "conv1d": [INPUT],
    "conv2d": [IMAGES],
    "linear": [LAST],
    "stack": [Calls(lambda a, b: torch.cat((a, b), 1))],
    "Embedding": [LAST],
    "(parametrised)": [INPUT],
    "(other)": [nn.Sequential(INPUT, nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(16, 3))],
}
"""For one name of each hint, nets that do what it says."""


def test_every_hint_is_tried() -> None:
    assert {INSTEAD[name] for name in ACCEPTED} == set(INSTEAD.values())


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_a_hint_leads_to_is_accepted(name: str) -> None:
    for net in ACCEPTED[name]:
        images = any(isinstance(layer, nn.Conv2d) for layer in net.modules())
        prepare_qat(net, QuantSpec(), (4, 8, 8) if images else SHAPE, (-1.0, 1.0))


class Ends(nn.Module):
    """A convolution, then any function of its result."""

    def __init__(self, end: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.end = nn.Conv1d(4, 4, 3, padding=1), end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.conv(x))


@pytest.mark.parametrize(
    "end",
    [
        lambda a: F.adaptive_avg_pool1d(a, 1).squeeze(-1),
        lambda a: F.adaptive_avg_pool1d(a, 1).squeeze(),
        lambda a: torch.squeeze(F.adaptive_avg_pool1d(a, 1), 2),
        lambda a: a.float().clamp_min(0),
        lambda a: torch.clip(a, -1, 1),
        lambda a: a.view(a.shape[0], a.size(1) * a.size(2)),
        lambda a: a.reshape(a.size(0), a.numel() // a.size(0)),
    ],
)
def test_other_spellings_of_the_same_are_accepted(end: Callable[[Tensor], Tensor]) -> None:
    net = Ends(end).eval()
    x = torch.rand(3, *SHAPE)
    prepared = prepare_qat(net, QuantSpec(enabled=False), SHAPE, (-1.0, 1.0))
    torch.testing.assert_close(prepared(x), net(x))


def test_a_bare_layer_is_refused_with_a_way_on() -> None:
    assert problems_of(nn.Linear(8, 3), (8,)) == (
        "model Linear: expected a module that holds layers, got one layer; put it into nn.Sequential",
    )
    prepare_qat(nn.Sequential(nn.Linear(8, 3)), QuantSpec(), (8,), (-1.0, 1.0))


def test_a_shape_that_squeeze_leaves_is_refused_with_a_way_on() -> None:
    (problem,) = problems_of(nn.Sequential(nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d((2, 1)), Squeeze()), (4, 8, 8))
    assert "as Flatten does" in problem


class Squeeze(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.squeeze(-1)


class Keeps(nn.Module):
    """A net that mixes what it computed at the last call into what it computes at this one."""

    def __init__(self, mix: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.mix, self.last = nn.Conv1d(4, 4, 3), mix, None

    def forward(self, x: Tensor) -> Tensor:
        new = self.layer(x)
        given = new if self.last is None else self.mix(new, self.last)
        self.last = new
        return given


@pytest.mark.parametrize(
    "mix",
    [
        lambda new, last: new + last,
        lambda new, last: last + new,
        lambda new, last: new + last.mean(),
        lambda new, last: (last.relu(), new)[1],
        lambda new, last: torch.cat([new, last], 1),
    ],
)
def test_a_tensor_that_is_kept_between_calls_is_named_with_its_line(mix: Callable[[Tensor, Tensor], Tensor]) -> None:
    (problem,) = problems_of(Keeps(mix))
    assert problem.startswith("model Keeps: expected a forward that depends on its input alone, got one that keeps a")
    assert "test_refusals.py, line " in problem
