"""FedAdagrad, FedAdam and FedYogi: the paper's numbers by hand, and Flower's own classes where they follow the paper.

Flower's differ in two points, each shown here: their second moment starts at 0 instead of tau^2, and their FedAdam
corrects the bias of the first rounds as if one round more had been run.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as theirs

from fl_core.errors import ConfigError
from fl_core.flower_private import borrowed_identity
from fl_core.types import ClientUpdate, Part, Tensors
from strategies.base import Strategy, StrategyState
from strategies.registry import build_strategy

MODEL = {"b": np.array([1.0, -1.0], np.float32), "w": np.arange(6, dtype=np.float32).reshape(2, 3)}
OURS_AND_THEIRS = {"fedadagrad": theirs.FedAdagrad, "fedadam": theirs.FedAdam, "fedyogi": theirs.FedYogi}
RATE, TAU = 0.1, 1e-3
ROUNDS = 5


def update(client: int, weight: int, delta: Tensors) -> ClientUpdate:
    return ClientUpdate(f"task-{client}", f"client-{client}", 0, {"delta": Part(delta)}, weight, 1)


def drawn(round: int) -> list[ClientUpdate]:
    """Three clients with 1, 2 and 5 examples."""
    draw = np.random.default_rng(round)
    shapes = {name: tensor.shape for name, tensor in MODEL.items()}
    return [
        update(k, weight, {name: draw.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()})
        for k, weight in enumerate((1, 2, 5))
    ]


def finish(strategy: Strategy, state: StrategyState, updates: list[ClientUpdate]) -> StrategyState:
    for each in updates:
        state = strategy.accumulate(state, each)
    return strategy.finish(state)


def constant(*values: float) -> list[ClientUpdate]:
    weights = (1, 2, 1)
    return [
        update(k, weights[k], {name: np.full_like(t, value) for name, t in MODEL.items()})
        for k, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("name", "args", "second_moments"),
    [
        # Delta = (1*1 + 2*2 + 1*6) / 4 = 2.75 and then (1*0 + 2*1 + 1*2) / 4 = 1; v_0 = 0.5^2 = 0.25
        ("fedadagrad", {}, (0.25 + 7.5625, 0.25 + 7.5625 + 1)),
        ("fedadam", {"beta_1": 0.5, "beta_2": 0.75}, (0.75 * 0.25 + 0.25 * 7.5625, 0.75 * 2.078125 + 0.25)),
        # 0.25 < Delta^2 adds a quarter of it; 2.140625 > 1 takes a quarter of 1 away
        ("fedyogi", {"beta_1": 0.5, "beta_2": 0.75}, (0.25 + 0.25 * 7.5625, 2.140625 - 0.25)),
    ],
)
def test_three_clients_by_hand(name, args, second_moments):
    strategy = build_strategy(name, None, {"server_learning_rate": 0.3, "tau": 0.5, **args})
    beta_1 = args.get("beta_1", 0.0)
    state, x, m = strategy.init(MODEL), 0.0, 0.0
    for delta, v, values in zip((2.75, 1.0), second_moments, ((1, 2, 6), (0, 1, 2)), strict=True):
        state = finish(strategy, state, constant(*values))
        m = beta_1 * m + (1 - beta_1) * delta
        x += 0.3 * m / (math.sqrt(v) + 0.5)
        for key, tensor in MODEL.items():
            np.testing.assert_allclose(state.model[key], tensor + x, rtol=1e-6)
            np.testing.assert_allclose(state.slots["second_moment"][key], v, rtol=1e-6)


def flowers_round(their: theirs.FedAdam, number: int, model: Tensors, updates: list[ClientUpdate]) -> Tensors:
    """The same round in Flower's class, called as its server does."""
    their.current_arrays = dict(model)
    with borrowed_identity():
        replies = [
            Message(
                RecordDict({
                    "arrays": ArrayRecord({
                        name: Array(tensor + each.parts["delta"].tensors[name]) for name, tensor in model.items()
                    }),
                    "metrics": MetricRecord({"num-examples": each.weight}),
                }),
                reply_to=Message(RecordDict(), 2 + k, "train"),
            )
            for k, each in enumerate(updates)
        ]  # fmt: skip
        arrays, _ = their.aggregate_train(number, replies)
    assert arrays is not None
    return {name: array.numpy() for name, array in arrays.items()}


def as_in_the_paper(name: str) -> theirs.FedAdam:
    their = OURS_AND_THEIRS[name](eta=RATE, tau=TAU)
    their.v_t = {key: np.full_like(tensor, TAU**2) for key, tensor in MODEL.items()}
    return their


def corrected_rate(number: int, shift: int) -> float:
    """The learning rate with Adam's correction of the bias in round ``number``, counted from 1 (arXiv 1412.6980)."""
    return RATE * math.sqrt(1 - 0.99 ** (number + shift)) / (1 - 0.9 ** (number + shift))


@pytest.mark.parametrize("name", sorted(OURS_AND_THEIRS))
def test_flower_gives_the_same_but_for_what_is_listed(name):
    their, model = as_in_the_paper(name), MODEL
    state = build_strategy(name, None, {}).init(MODEL)
    for number in range(1, ROUNDS + 1):
        rate = corrected_rate(number, shift=1) if name == "fedadam" else RATE
        state = finish(build_strategy(name, None, {"server_learning_rate": rate}), state, drawn(number))
        model = flowers_round(their, number, model, drawn(number))
        for key in MODEL:
            np.testing.assert_allclose(state.model[key], model[key], rtol=1e-6, atol=1e-6)


def test_flowers_second_moment_starts_at_nothing():
    """Where nothing has moved yet the paper's first step is Delta / (sqrt(v_0 + Delta^2) + tau), Flower's is longer."""
    tiny = [update(0, 1, {name: np.full_like(t, TAU) for name, t in MODEL.items()})]
    zeros = {name: np.zeros_like(t) for name, t in MODEL.items()}
    ours = finish(build_strategy("fedadagrad", None, {}), build_strategy("fedadagrad", None, {}).init(zeros), tiny)
    flowers = flowers_round(theirs.FedAdagrad(eta=RATE, tau=TAU), 1, zeros, tiny)
    np.testing.assert_allclose(ours.model["b"], RATE / (math.sqrt(2) + 1), rtol=1e-5)
    np.testing.assert_allclose(flowers["b"], RATE / 2, rtol=1e-5)


def test_flowers_adam_corrects_for_one_round_too_many():
    """In round 1 Adam's own correction gives rate * sqrt(1 - beta_2) / (1 - beta_1); Flower's is that of round 2."""
    flowers = flowers_round(as_in_the_paper("fedadam"), 1, MODEL, constant(1, 1, 1))
    moved = flowers["b"] - MODEL["b"]
    step = 0.1 / (math.sqrt(0.99 * TAU**2 + 0.01) + TAU)
    np.testing.assert_allclose(moved, corrected_rate(1, shift=1) * step, rtol=1e-5)
    assert corrected_rate(1, shift=1) / corrected_rate(1, shift=0) == pytest.approx(0.7425, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "args", "says"),
    [("fedadam", {"beta_1": 1.0}, "beta_1"), ("fedyogi", {"beta_2": -0.1}, "beta_2"), ("fedadagrad", {"tau": 0}, "tau"),
     ("fedadam", {"server_learning_rate": 0}, "server_learning_rate")],
)  # fmt: skip
def test_hyperparameters_out_of_range_are_refused(name, args, says):
    with pytest.raises(ConfigError, match=f"strategy.args.{says}: expected"):
        build_strategy(name, None, args)
