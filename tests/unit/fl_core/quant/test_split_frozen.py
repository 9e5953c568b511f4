"""A model cut behind its frozen front end computes what the whole model computes, with the same parameter names."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fl_core.quant.prepare import prepare_qat
from fl_core.quant.spec import QuantSpec
from fl_core.quant.split import split_frozen


def bank(frozen: bool = True) -> nn.Sequential:
    torch.manual_seed(3)
    first = nn.Conv1d(2, 6, 3, padding=1)
    if frozen:
        first.requires_grad_(False)
    return nn.Sequential(first, nn.ReLU(), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(24, 5), nn.ReLU(), nn.Linear(5, 3))


class Residual(nn.Module):
    """The frozen output is used again behind the trained layer, so there is no single bridge before the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Conv1d(2, 4, 1).requires_grad_(False)
        self.middle = nn.Conv1d(4, 4, 1)
        self.head = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        kept = self.front(x)
        return self.head((kept + self.middle(kept)).flatten(1))


def qat(model: nn.Module, **spec: object):
    return prepare_qat(model, QuantSpec(**spec), (2, 8), (-1.0, 1.0))


@pytest.mark.parametrize("grid", ["asymmetric", "symmetric"])
@pytest.mark.parametrize("model", [bank(), Residual()], ids=["bank", "residual"])
def test_suffix_of_prefix_is_the_whole_model(model, grid):
    whole = qat(model, grid=grid)
    parts = split_frozen(whole)
    assert parts is not None
    prefix, suffix = parts
    x = torch.rand(20, 2, 8) * 2 - 1
    torch.testing.assert_close(suffix(prefix(x)), whole(x), rtol=0, atol=0)
    trained = {name for name, p in whole.named_parameters() if p.requires_grad}
    assert {name for name, _ in suffix.named_parameters()} == trained
    assert not any(p.requires_grad for p in prefix.parameters())


def test_training_the_suffix_trains_the_whole_model():
    whole = qat(bank())
    parts = split_frozen(whole)
    assert parts is not None
    prefix, suffix = parts
    x = torch.rand(4, 2, 8)
    before = whole(x).detach().clone()
    with torch.no_grad():
        for param in suffix.parameters():
            param.add_(0.5)
    assert not torch.equal(whole(x), before)
    torch.testing.assert_close(suffix(prefix(x)), whole(x), rtol=0, atol=0)


def test_where_nothing_is_frozen_there_is_no_cut():
    assert split_frozen(qat(bank(frozen=False))) is None


def test_ranges_that_move_are_not_cut_away():
    assert split_frozen(qat(bank(), ranges="ema")) is None
    assert split_frozen(qat(bank(), ranges="learned")) is None


def test_dropout_is_not_cut_away():
    model = bank()
    parts = split_frozen(qat(nn.Sequential(model[0], nn.Dropout(0.5), *model[1:])))
    assert parts is not None
    assert all(step.op != "dropout" for step in parts[0].steps)
