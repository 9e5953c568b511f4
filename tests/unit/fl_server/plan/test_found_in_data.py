"""Data outside its range is refused where nearly all of it is, and told of where some is or where it fills few
steps.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import numpy as np
import pytest
import toy
from torch import nn

from fl_core.config.load import from_plain
from fl_core.data.federation import ClientData, Examples, Federation
from fl_core.errors import DataError
from fl_server.plan.setup import Setup


def scaled(federation: Federation, change: Callable[[Examples], Examples]) -> Federation:
    clients = {name: ClientData(change(client.train)) for name, client in federation.clients.items()}
    assert federation.test is not None
    return dataclasses.replace(federation, clients=clients, test=change(federation.test), public=None)


def setup_of(
    federation: Federation, task: str = "classification", model: str = "toy:model", ranges: str = "fixed"
) -> Setup:
    plain = {
        "run": {"name": "r", "rounds": 1}, "data": {"factory": "toy:data"}, "model": {"factory": model},
        "task": {"name": task}, "quant": {"ranges": ranges},
    }  # fmt: skip
    return Setup.of(from_plain(plain), federation)


def lines(setup: Setup) -> list[str]:
    return [str(finding) for finding in setup.findings]


def kelvin(low: float, high: float) -> Federation:
    def change(examples: Examples) -> Examples:
        return Examples(examples.x, (low + (examples.y + 1.5) / 3 * (high - low)).astype(np.float32))

    return scaled(toy.numbers(test=40), change)


def wide_predictor(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    model = toy.model(input_shape, outputs)
    model[-1].output_range = (0.0, 400.0)
    return model


def test_good_data_is_told_of_in_no_line() -> None:
    assert lines(setup_of(toy.data())) == []
    inside = scaled(toy.numbers(), lambda examples: Examples(examples.x, examples.y / 2))
    assert lines(setup_of(inside, "regression", "toy:predictor")) == []
    assert lines(setup_of(toy.waves(), "reconstruction", "toy:predictor")) == []


def test_inputs_that_nobody_scaled_are_refused_for_each_owner_with_the_range_that_holds_them() -> None:
    grey = scaled(toy.data(clients=2), lambda examples: Examples(127.5 * (examples.x + 1) + 2, examples.y))
    with pytest.raises(DataError) as caught:
        setup_of(grey)
    first, *others = caught.value.problems
    assert "client client-0, train: expected its inputs within -1 to 1, got " in first
    assert "let the Federation say input_range=(0, 260)" in first
    assert [line.split(":")[0] for line in others] == ["client client-1, train", "server test set"]


def test_inputs_of_which_some_lie_outside_are_told_of_with_their_share() -> None:
    some = scaled(toy.data(clients=1), lambda examples: Examples(2 * examples.x, examples.y))
    shares = [line for line in lines(setup_of(some)) if "client client-0, train: " in line]
    assert len(shares) == 1
    cut = float(np.mean(np.abs(some.clients["client-0"].train.x) > 1 + 1 / 255))
    told = re.search(r"([\d.]+) % of its inputs lie outside -1 to 1", shares[0])
    assert told is not None
    assert float(told[1]) == pytest.approx(100 * cut, abs=0.5)


def test_inputs_that_fill_a_few_steps_are_told_of() -> None:
    faint = scaled(toy.data(), lambda examples: Examples(examples.x / 100, examples.y))
    (line,) = lines(setup_of(faint))
    assert line.startswith("input range: all inputs lie within")
    assert "of the 255 steps of -1 to 1" in line


@pytest.mark.parametrize(
    ("bounds", "share"), [((-1.0, 1.0), None), ((0.0, 1.0), None), ((5.0, 10.0), "50%"), ((-10.0, -9.0), "10%")]
)
def test_a_range_without_zero_is_told_of_with_the_share_of_the_grid_that_is_left(
    bounds: tuple[float, float], share: str | None
) -> None:
    low, high = bounds
    moved = scaled(toy.data(), lambda examples: Examples(low + (examples.x + 1) / 2 * (high - low), examples.y))
    found = lines(setup_of(dataclasses.replace(moved, input_range=bounds).check()))
    assert len(found) == (share is not None)
    assert all(line.startswith("input range: data: ") and f"they use {share} of its steps" in line for line in found)


def test_targets_that_no_output_can_reach_are_refused_and_a_layer_that_says_its_range_is_taken() -> None:
    with pytest.raises(
        DataError, match=r"client client-0, train: expected its targets within .* output_range = \(0, 290\)"
    ):
        setup_of(kelvin(200, 310), "regression")
    assert lines(setup_of(kelvin(10, 390), "regression", "unit.fl_server.plan.test_found_in_data:wide_predictor")) == []


@pytest.mark.parametrize("ranges", ["learned", "ema"])
def test_an_output_range_that_moves_to_the_targets_refuses_none(ranges: str) -> None:
    setup_of(kelvin(20, 30), "regression", ranges=ranges)


def test_targets_far_from_zero_are_told_to_lose_their_mean_for_no_range_can_leave_zero_out() -> None:
    found = lines(setup_of(kelvin(300, 301), "regression", "unit.fl_server.plan.test_found_in_data:wide_predictor"))
    assert len(found) == 1
    assert "take their mean off first, for every range holds zero" in found[0]


def test_of_many_owners_the_worst_are_named_and_the_others_counted() -> None:
    grey = scaled(toy.data(clients=12), lambda examples: Examples(100 + 10 * examples.x, examples.y))
    with pytest.raises(DataError) as caught:
        setup_of(grey)
    assert caught.value.problems[-1] == "8 more: as many of their inputs"
