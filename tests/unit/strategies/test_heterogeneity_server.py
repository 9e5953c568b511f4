"""SCAFFOLD, FedNova and FedDyn on three clients, worked out by hand from the papers' update rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import strategies.base
from fl_core.errors import ConfigError, ModelError
from fl_core.tree import add_scaled
from fl_core.types import ClientUpdate, Part, Tensors
from strategies.base import Strategy, StrategyState
from strategies.client import LocalOutcome
from strategies.fedavg import FedAvg
from strategies.fednova import FedNova
from strategies.personal.ditto import Ditto
from strategies.personal.fedrep import FedRep
from strategies.personal.finetune import FineTune
from strategies.registry import build_strategy

MODEL: Tensors = {"w": np.array([1.0, -2.0], np.float32)}
DELTAS = ([1.0, 0.0], [2.0, -1.0], [6.0, 4.0])


def outcome(delta: list[float], steps: int, state: StrategyState, strategy: Strategy, **more: object) -> LocalOutcome:
    values = {"memory": {}, "learning_rate": 0.5, "momentum": 0.0} | more
    return LocalOutcome(
        received=state.model,
        delta={"w": np.array(delta, np.float32)},
        broadcast=strategy.broadcast(state),
        steps=steps,
        private=False,
        **values,
    )


def play(
    strategy: Strategy, state: StrategyState, steps: tuple[int, ...] = (4, 4, 4), weights: tuple[int, ...] = (1, 1, 1),
    memories: list[dict[str, Tensors]] | None = None, clients: tuple[int, ...] = (0, 1, 2),
) -> StrategyState:  # fmt: skip
    """One round of the three clients; what they remember is written into ``memories``."""
    memories = memories if memories is not None else [{}, {}, {}]
    for k in clients:
        parts, memories[k] = strategy.conclude(outcome(DELTAS[k], steps[k], state, strategy, memory=memories[k]))
        update = ClientUpdate(f"t{k}", f"c{k}", 0, {n: Part(t) for n, t in parts.items()}, weights[k], steps[k])
        assert {n: {m: t.shape for m, t in p.items()} for n, p in parts.items()} == {
            n: {m: t.shape for m, t in p.items()} for n, p in strategy.parts(MODEL).items()
        }
        state = strategy.accumulate(state, update)
    return strategy.finish(state)


def test_scaffold_by_hand():
    strategy = build_strategy("scaffold", None, {"server_learning_rate": 0.5})
    memories: list[dict[str, Tensors]] = [{}, {}, {}]
    state = play(strategy, strategy.init(MODEL), memories=memories)
    # mean delta (3, 1), half of it added
    np.testing.assert_allclose(state.model["w"], [2.5, -1.5], rtol=0, atol=1e-6)
    # c_k' = 0 - 0 - delta / (4 * 0.5): (-0.5, 0), (-1, 0.5), (-3, -2); their mean is c
    np.testing.assert_allclose(memories[2]["control"]["w"], [-3, -2], rtol=0, atol=1e-6)
    np.testing.assert_allclose(state.slots["control"]["w"], [-1.5, -0.5], rtol=0, atol=1e-6)
    state = play(strategy, state, memories=memories)
    # c_k'' = c_k' - c - delta/2: client 0: (-0.5 + 1.5 - 0.5, 0 + 0.5 - 0) = (0.5, 0.5)
    np.testing.assert_allclose(memories[0]["control"]["w"], [0.5, 0.5], rtol=0, atol=1e-6)
    # client 1: (-1 + 1.5 - 1, 0.5 + 0.5 + 0.5); client 2: (-3 + 1.5 - 3, -2 + 0.5 - 2); c is their mean again
    np.testing.assert_allclose(state.slots["control"]["w"], [(0.5 - 0.5 - 4.5) / 3, (0.5 + 1.5 - 3.5) / 3], atol=1e-6)


def test_scaffold_moves_its_control_by_the_share_of_clients_that_answered():
    strategy = build_strategy("scaffold", None, {"clients": 6})
    state = play(strategy, strategy.init(MODEL), clients=(0, 2))
    # mean of (-0.5, 0) and (-3, -2), times 2 of 6
    np.testing.assert_allclose(state.slots["control"]["w"], [-1.75 / 3, -1 / 3], rtol=0, atol=1e-6)


def test_scaffolds_control_stays_the_weighted_mean_of_its_clients_controls():
    """So the corrections of a round cancel, whatever the example counts."""
    strategy, weights = build_strategy("scaffold", None, {}), (1, 5, 2)
    state, memories = strategy.init(MODEL), [{}, {}, {}]
    for steps in ((4, 2, 8), (1, 3, 2), (5, 5, 5)):
        state = play(strategy, state, steps, weights, memories)
        mean = sum(n * own["control"]["w"] for n, own in zip(weights, memories, strict=True)) / 8
        np.testing.assert_allclose(state.slots["control"]["w"], mean, rtol=0, atol=1e-6)


def test_fednova_by_hand():
    state = play(FedNova(), FedNova().init(MODEL), steps=(1, 2, 4), weights=(1, 2, 1))
    # p = (1/4, 1/2, 1/4); d = (1, 0), (1, -0.5), (1.5, 1); mean d = (1.125, 0); tau = 1/4 + 1 + 1 = 2.25
    np.testing.assert_allclose(state.model["w"], [1 + 2.25 * 1.125, -2], rtol=0, atol=1e-6)


def test_fednova_with_equal_steps_is_fedavg():
    nova = play(FedNova(), FedNova().init(MODEL), steps=(3, 3, 3), weights=(1, 2, 1))
    average = play(FedAvg(), FedAvg().init(MODEL), weights=(1, 2, 1))
    np.testing.assert_allclose(nova.model["w"], average.model["w"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_effective_steps_are_the_displacement_under_a_constant_gradient(momentum, steps):
    velocity = moved = 0.0
    for _ in range(steps):
        velocity = momentum * velocity + 1.0
        moved += velocity
    got = outcome([0, 0], steps, FedAvg().init(MODEL), FedAvg(), momentum=momentum).effective_steps
    assert got == pytest.approx(moved, rel=1e-12)


def test_feddyn_by_hand():
    strategy = build_strategy("feddyn", None, {"alpha": 0.5})
    memories: list[dict[str, Tensors]] = [{}, {}, {}]
    state = play(strategy, strategy.init(MODEL), memories=memories)
    # mean delta (3, 1); h = -(1.5, 0.5); x + mean - h / 0.5 = x + (6, 2)
    np.testing.assert_allclose(state.slots["drift"]["w"], [-1.5, -0.5], rtol=0, atol=1e-6)
    np.testing.assert_allclose(state.model["w"], [7, 0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(memories[1]["gradient"]["w"], [-1, 0.5], rtol=0, atol=1e-6)
    state = play(strategy, state, memories=memories)
    np.testing.assert_allclose(state.slots["drift"]["w"], [-3, -1], rtol=0, atol=1e-6)
    np.testing.assert_allclose(state.model["w"], [7 + 3 + 6, 0 + 1 + 2], rtol=0, atol=1e-6)
    np.testing.assert_allclose(memories[1]["gradient"]["w"], [-2, 1], rtol=0, atol=1e-6)


def test_feddyn_moves_its_drift_by_the_share_of_clients_that_answered():
    strategy = build_strategy("feddyn", None, {"alpha": 0.5, "clients": 6})
    state = play(strategy, strategy.init(MODEL), clients=(0, 2))
    # mean delta (3.5, 2), of 2 of 6
    np.testing.assert_allclose(state.slots["drift"]["w"], [-3.5 / 6, -1 / 3], rtol=0, atol=1e-6)
    np.testing.assert_allclose(state.model["w"], [1 + 3.5 + 3.5 / 3, -2 + 2 + 2 / 3], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["scaffold", "feddyn"])
def test_fewer_clients_than_a_round_sums_are_refused(name):
    strategy = build_strategy(name, None, {"clients": 2})
    with pytest.raises(ConfigError, match="at least the 3 of one round, got 2"):
        play(strategy, strategy.init(MODEL))


@pytest.mark.parametrize("wrapper", [Ditto, FineTune])
def test_a_personal_model_changes_nothing_on_the_server(wrapper):
    inner = build_strategy("scaffold", None, {})
    alone, beside = (play(each, each.init(MODEL)) for each in (inner, wrapper(inner=inner)))
    np.testing.assert_array_equal(alone.model["w"], beside.model["w"])
    np.testing.assert_array_equal(alone.slots["control"]["w"], beside.slots["control"]["w"])


def test_a_wrapper_is_not_allowed_what_its_inner_strategy_is_not():
    assert Ditto(inner=FedNova()).traits == FedNova.traits
    assert FineTune(inner=FedRep()).traits == FedRep.traits
    assert Ditto().traits == FedAvg.traits


NAMES = ["conv.weight", "conv.bias", "out.weight", "out.bias", "act_quant.conv.log_scale", "act_quant.out.log_scale"]


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [("fedper", {}, {"out.weight", "out.bias", "act_quant.out.log_scale"}),
     ("fedrep", {"layers": ["conv"]}, {"conv.weight", "conv.bias", "act_quant.conv.log_scale"}),
     ("fedbn", {}, {"conv.bias", "out.bias", "act_quant.conv.log_scale", "act_quant.out.log_scale"}),
     ("fedbn", {"tensors": ["log_scale"]}, {"act_quant.conv.log_scale", "act_quant.out.log_scale"})],
)  # fmt: skip
def test_what_stays_home(name, args, expected):
    assert build_strategy(name, None, args).stays_home(NAMES) == expected


@pytest.mark.parametrize(
    ("name", "args", "names", "says"),
    [("fedper", {}, ["out.weight", "out.bias"], "leaves none to travel"),
     ("fedper", {"layers": ["ou"]}, NAMES, "expected layers .*, got ou"),
     ("fedrep", {"layers": ["conv", "out"]}, NAMES, "leaves none to travel"),
     ("fedbn", {}, ["out.weight"], "keeps none of them at home")],
)  # fmt: skip
def test_a_split_that_splits_nothing_is_refused(name, args, names, says):
    with pytest.raises(ModelError, match=says):
        build_strategy(name, None, args).stays_home(names)


@pytest.mark.parametrize(
    ("name", "args", "says"),
    [("scaffold", {"clients": 0}, "clients"), ("scaffold", {"server_learning_rate": 0}, "server_learning_rate"),
     ("fednova", {"server_learning_rate": -1}, "server_learning_rate"), ("feddyn", {"alpha": 0}, "alpha"),
     ("moon", {"mu": -1}, "mu"), ("moon", {"temperature": 0}, "temperature"), ("ditto", {"strength": -1}, "strength"),
     ("ditto", {"epochs": 0}, "epochs"), ("finetune", {"epochs": 0}, "epochs"),
     ("finetune", {"inner": {"name": "ditto"}}, "without a personal phase, got Ditto"),
     ("fedrep", {"head_epochs": 0}, "head_epochs"), ("fedrep", {"body_epochs": 0}, "body_epochs")],
)  # fmt: skip
def test_wrong_values_are_refused(name, args, says):
    with pytest.raises(ConfigError, match=says):
        build_strategy(name, None, args)


def test_the_count_of_a_round_is_closed_with_it():
    strategy = FedAvg()
    state = strategy.init(MODEL)
    assert state.summed == 0
    for k in range(3):
        state = strategy.accumulate(state, ClientUpdate(f"t{k}", f"c{k}", 0, {"delta": Part(MODEL)}, 7, 1))
    assert state.summed == 3
    assert strategy.finish(state).summed == 0
    assert strategy.finish(replace(state, sums={})).summed == 0


def test_the_example_of_the_documentation_runs():
    text = (Path(__file__).parents[3] / "docs" / "strategies.md").read_text(encoding="utf-8")
    code = text.partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = dict(vars(strategies.base)) | {"add_scaled": add_scaled}
    exec(code, names)
    strategy = names["Anchored"](strength=0.5)
    memories: list[dict[str, Tensors]] = [{}, {}, {}]
    state = play(strategy, strategy.init(MODEL), memories=memories)
    np.testing.assert_allclose(state.model["w"], [4, -1], rtol=0, atol=1e-6)
    np.testing.assert_allclose(memories[2]["own"]["w"], [7, 2], rtol=0, atol=1e-6)
