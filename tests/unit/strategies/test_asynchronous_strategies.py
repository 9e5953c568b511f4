"""Staleness weights, FedAsync and FedBuff against figures worked out by hand from their papers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fl_core.errors import ConfigError, UpdateRejectedError
from fl_core.tree import digest
from fl_core.types import ClientUpdate, Part
from strategies.base import Strategy, StrategyState
from strategies.registry import build_strategy
from strategies.staleness import staleness_weight

MODEL = {"w": np.array([1.0, -2.0], np.float32)}


def update(client: int, base: int, value: float, part: str = "delta", weight: int = 1) -> ClientUpdate:
    tensors = {"w": np.full(2, value, np.float32)}
    return ClientUpdate(f"task-{client}-{base}", f"client-{client}", base, {part: Part(tensors)}, weight, 1)


def at_version(strategy: Strategy, version: int) -> StrategyState:
    return replace(strategy.init(MODEL), version=version)


@pytest.mark.parametrize(
    ("kind", "versions", "a", "b", "expected"),
    [
        ("constant", 7, 0.5, 4, 1.0),
        ("polynomial", 0, 0.5, 4, 1.0),
        ("polynomial", 3, 0.5, 4, 0.5),  # 4 ** -1/2
        ("polynomial", 8, 0.5, 4, 1 / 3),  # 9 ** -1/2
        ("polynomial", 4, 1.0, 4, 0.2),
        ("hinge", 4, 10, 4, 1.0),
        ("hinge", 5, 10, 4, 1 / 11),
        ("hinge", 6, 0.5, 4, 0.5),  # 1 / (0.5 * 2 + 1)
    ],
)
def test_staleness_weights_are_those_of_the_paper(kind, versions, a, b, expected):
    assert staleness_weight(kind, versions, a, b) == pytest.approx(expected, rel=1e-12)


def test_fedbuff_divides_by_the_size_of_its_buffer():
    strategy = build_strategy("fedbuff", None, {"buffer_size": 3, "a": 0.5})
    state = at_version(strategy, 8)
    for client, (base, value) in enumerate([(8, 3.0), (5, 4.0), (0, 9.0)]):
        assert not strategy.ready(state)
        state = strategy.accumulate(state, update(client, base, value))
    assert strategy.ready(state)
    done = strategy.finish(state)
    # (1 * 3 + 1/2 * 4 + 1/3 * 9) / 3 = 8/3
    np.testing.assert_allclose(done.model["w"], MODEL["w"] + 8 / 3, rtol=1e-6)
    assert done.version == 9
    assert not strategy.ready(done)


def test_fedbuff_weighs_by_examples():
    strategy = build_strategy("fedbuff", None, {"buffer_size": 2, "staleness": "constant"})
    state = at_version(strategy, 0)
    for client, weight in enumerate((1, 3)):
        state = strategy.accumulate(state, update(client, 0, float(client), weight=weight))
    np.testing.assert_allclose(strategy.finish(state).model["w"], MODEL["w"] + 0.75, rtol=1e-6)


@pytest.mark.parametrize("inner", ["fedavgm", "median"])
def test_fedbuff_steps_as_its_inner_strategy_does(inner):
    plain = build_strategy(inner, None, {})
    buffered = build_strategy("fedbuff", None, {"buffer_size": 3, "inner": {"name": inner}})
    updates = [update(n, 0, float(n)) for n in range(3)]
    ends = []
    for strategy in (plain, buffered):
        state = strategy.init(MODEL)
        for each in updates:
            state = strategy.accumulate(state, each)
        assert strategy.ready(state) == (strategy is buffered)
        ends.append(digest(strategy.finish(state).model))
    assert ends[0] == ends[1]


def test_fedasync_mixes_with_the_trained_weights():
    strategy = build_strategy("fedasync", None, {"alpha": 0.6, "a": 0.5})
    state = strategy.accumulate(at_version(strategy, 3), update(1, 0, 5.0, "trained"))
    assert strategy.ready(state)
    # alpha_t = 0.6 * 4 ** -1/2 = 0.3: 0.7 * [1, -2] + 0.3 * 5
    np.testing.assert_allclose(strategy.finish(state).model["w"], [2.2, 0.1], rtol=1e-6)


@pytest.mark.parametrize(("name", "part"), [("fedbuff", "delta"), ("fedasync", "trained")])
def test_what_is_too_stale_or_from_the_future_changes_nothing(name, part):
    strategy = build_strategy(name, None, {"max_staleness": 2})
    state = at_version(strategy, 5)
    strategy.accumulate(state, update(1, 3, 1.0, part))
    for base in (2, 6):
        with pytest.raises(UpdateRejectedError, match=r"staleness of 0 to 2, got"):
            strategy.accumulate(state, update(1, base, 1.0, part))
    assert not state.sums


@pytest.mark.parametrize(
    ("name", "args", "says"),
    [
        ("fedbuff", {"buffer_size": 0}, "buffer_size"),
        ("fedbuff", {"staleness": "linear"}, "one of constant, polynomial, hinge"),
        ("fedbuff", {"a": 0}, "args.a"),
        ("fedbuff", {"max_staleness": -1}, "max_staleness"),
        ("fedbuff", {"inner": {"name": "scaffold"}}, "alone"),
        ("fedbuff", {"inner": {"name": "fedbuff"}}, "synchronous"),
        ("fedasync", {"alpha": 1.5}, "alpha"),
        ("fedasync", {"rho": -1}, "rho"),
    ],
)
def test_wrong_values_are_refused_by_name(name, args, says):
    with pytest.raises(ConfigError, match=says):
        build_strategy(name, None, args)
