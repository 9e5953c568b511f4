"""q-FedAvg and AFL on three clients by hand; their losses are refused wherever privacy is promised."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from fl_core.errors import ConfigError, UpdateRejectedError
from fl_core.parts import LOSS_PART
from fl_core.tree import digest
from fl_core.types import ClientUpdate, Part
from strategies.afl import AFL, onto_simplex
from strategies.base import Strategy, StrategyState
from strategies.client import LocalOutcome
from strategies.qfedavg import QFedAvg
from strategies.registry import build_strategy

MODEL = {"w": np.zeros(2, np.float32)}


def update(client: str, delta: tuple[float, float], loss: float, weight: int = 1) -> ClientUpdate:
    parts = {
        "delta": Part({"w": np.array(delta, np.float32)}),
        LOSS_PART: Part({LOSS_PART: np.array([loss], np.float32)}),
    }
    return ClientUpdate(f"task-{client}", client, 0, parts, weight, 1)


THREE = [update("a", (1.0, 0.0), 1.0, 1), update("b", (0.0, 2.0), 4.0, 10), update("c", (-1.0, 1.0), 0.25, 100)]


def finish(strategy: Strategy, state: StrategyState, updates: list[ClientUpdate]) -> StrategyState:
    for each in updates:
        state = strategy.accumulate(state, each)
    return strategy.finish(state)


def test_q_fedavg_by_hand():
    strategy = QFedAvg(q=1.0, client_learning_rate=0.5)  # L = 2
    state = finish(strategy, strategy.init(MODEL), THREE)
    # F * D: 1*(2,0) + 4*(0,4) + 0.25*(-2,2) = (1.5, 16.5)
    # h = q * F^0 * |D|^2 + L * F: (4 + 2) + (16 + 8) + (8 + 0.5) = 38.5
    np.testing.assert_allclose(state.model["w"], np.array([1.5, 16.5]) / 38.5, rtol=1e-6)


def test_q_of_nothing_is_the_unweighted_mean():
    strategy = QFedAvg(q=0.0)
    state = finish(strategy, strategy.init(MODEL), THREE)
    np.testing.assert_allclose(state.model["w"], [0.0, 1.0], atol=1e-6)


def test_afl_by_hand():
    strategy = AFL(mixture_learning_rate=0.1)
    first = finish(strategy, strategy.init(MODEL), THREE)
    np.testing.assert_allclose(first.model["w"], [0.0, 1.0], atol=1e-6)  # the uniform mixture
    # 1/3 + 0.1 * (1, 4, 0.25) = (0.4333, 0.7333, 0.3583), which is 0.525 too much: 0.175 less for each
    lambdas = {client: float(value[0]) for client, value in first.slots["mixture"].items()}
    expected = {"a": 0.43333333 - 0.175, "b": 0.73333333 - 0.175, "c": 0.35833333 - 0.175}
    assert lambdas == pytest.approx(expected, abs=1e-6)
    second = finish(strategy, first, THREE[:2])
    share = expected["a"] + expected["b"]
    moved = np.array([expected["a"], 2 * expected["b"]]) / share
    np.testing.assert_allclose(second.model["w"] - first.model["w"], moved, rtol=1e-5)
    assert sum(float(value[0]) for value in second.slots["mixture"].values()) == pytest.approx(1.0, abs=1e-6)


def test_afl_ends_with_the_client_that_is_served_worst():
    strategy = AFL(mixture_learning_rate=0.5)
    state = strategy.init(MODEL)
    for _ in range(5):
        state = finish(strategy, state, THREE)
    assert float(state.slots["mixture"]["b"][0]) == pytest.approx(1.0)
    # Nobody counts whose mixture is 0: without b nothing moves.
    alone = finish(strategy, state, [THREE[0]])
    assert digest(alone.model) == digest(state.model)


def test_the_simplex_is_reached_by_the_nearest_way():
    draw = np.random.default_rng(0)
    for _ in range(50):
        values = draw.normal(size=6)
        nearest = onto_simplex(values)
        assert nearest.min() >= 0
        assert nearest.sum() == pytest.approx(1.0)
        others = draw.dirichlet(np.ones(6), 200)
        assert (np.linalg.norm(others - values, axis=1) >= np.linalg.norm(nearest - values) - 1e-12).all()


@pytest.mark.parametrize("strategy", [QFedAvg(q=0.7), AFL()], ids=["qfedavg", "afl"])
def test_the_order_of_replies_changes_no_bit(strategy):
    states = [finish(strategy, strategy.init(MODEL), list(order)) for order in permutations(THREE)]
    assert len({digest(state.model) for state in states}) == 1
    assert len({digest(state.slots.get("mixture", {})) for state in states}) == 1


@pytest.mark.parametrize("strategy", [QFedAvg(), AFL()], ids=["qfedavg", "afl"])
def test_the_loss_travels_in_a_part_that_is_declared_and_checked(strategy):
    outcome = LocalOutcome(MODEL, MODEL, {}, {}, 1, 0.1, 0.0, False, loss_before=0.75)
    parts, memory = strategy.conclude(outcome)
    assert {name: set(tensors) for name, tensors in parts.items()} == {
        name: set(tensors) for name, tensors in strategy.parts(MODEL).items()
    }
    assert float(parts[LOSS_PART][LOSS_PART][0]) == 0.75
    assert memory == {}
    assert strategy.traits == {"uses_losses"}
    with pytest.raises(UpdateRejectedError, match="client x: expected a loss of at least 0, got -1"):
        strategy.accumulate(strategy.init(MODEL), update("x", (1.0, 1.0), -1.0))


@pytest.mark.parametrize("strategy", [QFedAvg(q=2.0), AFL()], ids=["qfedavg", "afl"])
def test_losses_and_updates_of_nothing_are_no_division_by_zero(strategy):
    state = finish(strategy, strategy.init(MODEL), [update("a", (0.0, 0.0), 0.0)])
    assert np.isfinite(state.model["w"]).all()


@pytest.mark.parametrize(
    ("name", "args"),
    [("qfedavg", {"q": -1}), ("qfedavg", {"client_learning_rate": 0}), ("afl", {"mixture_learning_rate": 0})],
)
def test_hyperparameters_out_of_range_are_refused(name, args):
    with pytest.raises(ConfigError, match=f"strategy.args.{next(iter(args))}: expected"):
        build_strategy(name, None, args)
