"""Operations in place mean what they mean in eager mode: whoever reads their input later reads what was written."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fl_core.errors import UnsupportedLayerError
from fl_core.quant.fake_quant import set_fake_quant
from fl_core.quant.prepare import prepare_qat
from fl_core.quant.spec import QuantSpec

SHAPE = (2, 8)
Forward = Callable[["Net", Tensor], Tensor]


class Net(nn.Module):
    """A convolution, something with its result, and a linear layer."""

    def __init__(self, between: Forward) -> None:
        super().__init__()
        self.conv, self.between, self.last = nn.Conv1d(2, 4, 3, padding=1), between, nn.Linear(32, 3)
        self.act, self.swish = nn.ReLU(inplace=True), nn.Hardswish(inplace=True)
        self.drop = nn.Dropout(0.5, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self, self.conv(x)).flatten(1))


def add_to(net: Net, a: Tensor) -> Tensor:
    r = torch.relu(a)
    c = r
    c += a
    return r + c


def add_method(net: Net, a: Tensor) -> Tensor:
    r = torch.relu(a)
    return r.add_(a) + r


def out_argument(net: Net, a: Tensor) -> Tensor:
    b = torch.relu(a)
    torch.add(a, b, out=b)
    return b + a


def view_of_it(net: Net, a: Tensor) -> Tensor:
    flat = a.flatten(1)
    a.relu_()
    return flat


def view_is_written(net: Net, a: Tensor) -> Tensor:
    same = a.view(a.size(0), 4, 8)
    F.hardtanh_(same)
    return a + same


def twice(net: Net, a: Tensor) -> Tensor:
    first = net.act(a)
    a += first
    return net.act(a) + first


def contiguous(net: Net, a: Tensor) -> Tensor:
    return net.act(a.contiguous()) + a


FORMS: dict[str, Forward] = {
    "nothing in place": lambda net, a: torch.relu(a) + a,
    "nn.ReLU(inplace=True)": lambda net, a: a + net.act(a),
    "nn.Hardswish(inplace=True)": lambda net, a: a + net.swish(a),
    "F.relu(a, inplace=True)": lambda net, a: F.relu(a, inplace=True) + a,
    "F.relu6(a, inplace=True)": lambda net, a: F.relu6(a, inplace=True) + a,
    "a.relu_()": lambda net, a: a.relu_() + a,
    "a.clamp_(-0.1, 0.1)": lambda net, a: a.clamp_(-0.1, 0.1) + a,
    "a.sigmoid_()": lambda net, a: a.sigmoid_() + a,
    "c += a": add_to,
    "r.add_(a)": add_method,
    "out=b": out_argument,
    "a view that is read later": view_of_it,
    "a view that is written": view_is_written,
    "twice": twice,
    "contiguous": contiguous,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_form_in_place_is_what_it_is_in_eager_mode(form: str) -> None:
    torch.manual_seed(0)
    net = Net(FORMS[form]).eval()
    x = torch.rand(6, *SHAPE) * 2 - 1
    prepared = prepare_qat(net, QuantSpec(), SHAPE, (-1.0, 1.0)).eval()
    set_fake_quant(prepared, False)
    with torch.no_grad():  # out= has no gradient in eager mode
        torch.testing.assert_close(prepared(x), net(x.clone()), rtol=1e-6, atol=1e-6)


def test_writing_over_the_input_is_seen_by_whoever_reads_it_later() -> None:
    class OnInput(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv1d(2, 3, 1), nn.Conv1d(2, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.first(x.relu_()) + self.second(x)

    net = OnInput().eval()
    x = torch.rand(4, *SHAPE) * 2 - 1
    prepared = prepare_qat(net, QuantSpec(enabled=False), SHAPE, (-1.0, 1.0))
    torch.testing.assert_close(prepared(x), net(x.clone()), rtol=1e-6, atol=1e-6)


def test_a_dropout_in_place_drops_for_the_skip_as_well() -> None:
    net = Net(lambda net, a: net.drop(a) + a)
    prepared = prepare_qat(net, QuantSpec(enabled=False), SHAPE, (-1.0, 1.0)).train()
    summed = prepared.tensors(torch.rand(50, *SHAPE))["add"]
    assert 0.4 < float((summed == 0).float().mean()) < 0.6


def test_another_view_of_what_was_written_is_refused_where_it_has_no_integer_form() -> None:
    def flat_is_written(net: Net, a: Tensor) -> Tensor:
        a.flatten(1).relu_()
        return torch.relu(a) + a

    with pytest.raises(UnsupportedLayerError, match="layer relu_: works in place on another view of conv"):
        prepare_qat(Net(flat_is_written), QuantSpec(), SHAPE, (-1.0, 1.0))
