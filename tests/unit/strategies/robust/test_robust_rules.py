"""Robust rules: hand-computed and reference values, breakdown under any size of lie, composition, too few updates."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types

import numpy as np
import pytest

from fl_core.errors import ConfigError
from fl_core.tree import digest
from fl_core.types import ClientUpdate, Part
from strategies.base import Strategy, StrategyState
from strategies.registry import build_strategy

MODEL = {"b": np.zeros(1, np.float32), "w": np.zeros(2, np.float32)}
ROWS = [
    [0.03, 1.36, 1.22], [-0.51, -0.3, -0.53], [0.57, -0.06, 0.75], [-1.85, 1.57, -0.1], [0.68, -0.14, -0.38],
    [0.46, 0.82, -0.2], [-0.15, 0.69, -0.87], [-1.51, 0.39, -0.67], [-38.4, -16.2, -9.4], [-23.8, -29.8, 0.8],
    [18.0, -4.6, -14.8],
]  # fmt: skip
"""Eight clients near each other and three far off."""
NNM_TRIMMED = {"name": "nnm", "args": {"byzantine": 3, "inner": {"name": "trimmed_mean", "args": {"byzantine": 3}}}}
# What byzfl 0.0.11 gives for ROWS. Its Krum takes n - f - 1 neighbours where the paper takes n - f - 2, so its f is
# one more than ours: Krum(4) and MultiKrum(4), which averages n - 4 = 7 updates, are our f = 3.
BYZFL = {
    "median": ({"name": "median"}, [-0.15, -0.06, -0.38]),
    "trimmed_mean": ({"name": "trimmed_mean", "args": {"byzantine": 3}}, [-0.336, 0.116, -0.376]),
    "geometric_median": (
        {"name": "geometric_median", "args": {"iterations": 3, "smoothing": 0.1}},
        [-0.30079266540546934, 0.1885617146824125, -0.38191364205352824],
    ),
    "krum": ({"name": "krum", "args": {"byzantine": 3}}, [0.46, 0.82, -0.2]),
    "multikrum": (
        {"name": "multikrum", "args": {"byzantine": 3, "select": 7}},
        [-0.06142857142857142, 0.39428571428571424, -0.09714285714285713],
    ),
    "centered_clipping": (
        {"name": "centered_clipping", "args": {"iterations": 2, "radius": 1.5}},
        [-0.33246849036415577, 0.17842480685405457, -0.26211234643087405],
    ),
    "nnm": (NNM_TRIMMED, [-0.285, 0.54125, -0.0975]),
}
ROBUST = {
    **{name: chosen for name, (chosen, _) in BYZFL.items() if name != "geometric_median"},
    "geometric_median": {"name": "geometric_median"},
    "dnc": {"name": "dnc", "args": {"byzantine": 3}},
    "norm_bound": {"name": "norm_bound", "args": {"max_norm": 2.0}},
    "fltrust": {"name": "fltrust", "args": {"root": "client-00"}},
}
COUNTED = {"trimmed_mean": 7, "krum": 9, "multikrum": 9, "bulyan": 15, "dnc": 7, "nnm": 7}
"""The fewest updates for 3 liars, by the papers."""


def built(chosen: dict) -> Strategy:
    return build_strategy(chosen["name"], None, chosen.get("args", {}))


def update(number: int, row, weight: int = 1) -> ClientUpdate:
    row = np.asarray(row, np.float32)
    part = Part({"b": row[:1], "w": row[1:]})
    return ClientUpdate(f"task-{number}", f"client-{number:02d}", 0, {"delta": part}, weight, 1)


def finish(strategy: Strategy, state: StrategyState, updates) -> StrategyState:
    for each in updates:
        state = strategy.accumulate(state, each)
    return strategy.finish(state)


def step(strategy: Strategy, rows, weights=None) -> np.ndarray:
    updates = [update(n, row, 1 if weights is None else weights[n]) for n, row in enumerate(rows)]
    model = finish(strategy, strategy.init(MODEL), updates).model
    return np.concatenate([model["b"], model["w"]]).astype(np.float64)


@pytest.mark.parametrize("name", sorted(BYZFL))
def test_equals_the_reference(name):
    chosen, expected = BYZFL[name]
    np.testing.assert_allclose(step(built(chosen), ROWS), expected, rtol=0, atol=1e-6)


@pytest.fixture
def byzfl(monkeypatch):
    """The aggregators of byzfl, without the rest of the package, which asks for torchvision."""
    spec = importlib.util.find_spec("byzfl")
    if spec is None:
        pytest.skip("byzfl is not installed (pip install --no-deps byzfl==0.0.11)")
    bare = types.ModuleType("byzfl")
    bare.__path__ = list(spec.submodule_search_locations or ())
    monkeypatch.setitem(sys.modules, "byzfl", bare)
    return importlib.import_module("byzfl.aggregators.aggregators")


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_reference_where_it_is_installed(byzfl, seed):
    rows = np.random.default_rng(seed).normal(size=(13, 3)).astype(np.float32).astype(np.float64)
    theirs = {
        "median": byzfl.Median(), "trimmed_mean": byzfl.TrMean(3), "geometric_median": byzfl.GeometricMedian(0.1, 3),
        "krum": byzfl.Krum(4), "centered_clipping": byzfl.CenteredClipping(L=2, tau=1.5),
    }  # fmt: skip
    for name, aggregate in theirs.items():
        np.testing.assert_allclose(step(built(BYZFL[name][0]), rows), aggregate(rows.copy()), rtol=0, atol=1e-6)
    mean = byzfl.MultiKrum(4)(rows.copy())
    ours = built({"name": "multikrum", "args": {"byzantine": 3, "select": 9}})
    np.testing.assert_allclose(step(ours, rows), mean, rtol=0, atol=1e-6)


def test_reference_krum_counts_one_neighbour_too_many(byzfl):
    ours = step(built({"name": "krum", "args": {"byzantine": 3}}), ROWS)
    theirs = byzfl.Krum(3)(np.array(ROWS))
    assert np.abs(ours - theirs).max() > 0.1


def test_reference_centered_clipping_accepts_no_centre(byzfl):
    with pytest.raises(TypeError, match="m must be of type"):
        byzfl.CenteredClipping(m=np.zeros(3))


@pytest.mark.parametrize("size", [1e2, 1e6, 1e18, 1e30])
@pytest.mark.parametrize("name", sorted(ROBUST))
def test_liars_of_any_size_do_not_move_the_result_away(name, size):
    honest = np.array(ROWS[:8])
    for direction in ([1, 1, 1], [-1, 0.3, 0]):
        got = step(built(ROBUST[name]), [*honest, *([size * np.array(direction)] * 3)])
        assert np.linalg.norm(got) <= np.linalg.norm(honest, axis=1).max() + 1e-6


@pytest.mark.parametrize("name", ["median", "trimmed_mean", "bulyan"])
def test_each_coordinate_stays_among_the_honest_ones(name):
    honest = np.random.default_rng(3).normal(size=(12, 3))
    chosen = {"name": name, "args": {} if name == "median" else {"byzantine": 3}}
    for lie in (1e9, -1e9, 0.5):
        got = step(built(chosen), [*honest, *([[lie] * 3] * 3)])
        assert (got >= honest.min(axis=0) - 1e-6).all()
        assert (got <= honest.max(axis=0) + 1e-6).all()


def test_the_mean_itself_has_no_such_bound():
    assert np.abs(step(built({"name": "fedavg"}), [*ROWS[:8], [1e6] * 3])).max() > 1e4


@pytest.mark.parametrize("name", sorted(ROBUST))
def test_a_claimed_number_of_examples_buys_nothing(name):
    strategy = built(ROBUST[name])
    np.testing.assert_array_equal(step(strategy, ROWS), step(strategy, ROWS, weights=[1] * 10 + [1_000_000]))


@pytest.mark.parametrize("name", sorted(COUNTED))
def test_a_round_with_too_few_updates_moves_nothing(name):
    strategy = built({"name": name, "args": {"byzantine": 3}})
    rows = np.random.default_rng(5).normal(size=(COUNTED[name], 3))
    assert strategy.least_updates == COUNTED[name]
    assert not step(strategy, rows[:-1]).any()
    assert step(strategy, rows).any()


@pytest.mark.parametrize("name", sorted(COUNTED))
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_without_a_stated_number_of_liars_any_number_of_updates_will_do(name, count):
    assert step(built({"name": name}), ROWS[:count]).any()


def test_bulyan_by_hand():
    # f = 1 of 7, one coordinate: Krum selects five of the six near ones, the three nearest to their median remain.
    values = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 100.0]
    got = step(built({"name": "bulyan", "args": {"byzantine": 1}}), [[v, 0, 0] for v in values])
    assert got[0] in {2.0, 3.0}


def test_norm_bound_by_hand():
    got = step(built({"name": "norm_bound", "args": {"max_norm": 1.0}}), [[3, 4, 0], [0, 0, 0.5]])
    np.testing.assert_allclose(got, [0.3, 0.4, 0.25], atol=1e-7)


def test_fltrust_by_hand():
    # The root points along b with length 2: one client agrees, one stands across, one is against it.
    rows = [[2, 0, 0], [5, 0, 0], [0, 7, 0], [-9, 0, 0]]
    np.testing.assert_allclose(step(built(ROBUST["fltrust"]), rows), [2, 0, 0], atol=1e-6)
    assert not step(built({"name": "fltrust", "args": {"root": "nobody"}}), rows).any()
    assert not step(built(ROBUST["fltrust"]), [rows[0], rows[2], rows[3]]).any()


def test_dnc_drops_those_who_pull_together():
    honest = np.random.default_rng(0).normal(size=(9, 3))
    got = step(built({"name": "dnc", "args": {"byzantine": 3, "repetitions": 1}}), [*honest, *([[9.0, 9, 9]] * 3)])
    np.testing.assert_allclose(got, honest.mean(axis=0), atol=1e-6)


def test_a_rule_gives_a_mean_and_a_server_optimiser_steps():
    inner = {"name": "fedavgm", "args": {"momentum": 0.5}}
    strategy = built({"name": "nnm", "args": {"inner": {"name": "centered_clipping", "args": {"inner": inner}}}})
    state = strategy.init(MODEL)
    assert sorted(state.slots) == ["center_delta", "velocity"]
    for _ in range(3):
        state = finish(strategy, state, [update(n, [0.5, 0, 0]) for n in range(5)])
    # velocities 0.5, 0.75, 0.875
    np.testing.assert_allclose(state.model["b"], [2.125], atol=1e-6)
    np.testing.assert_allclose(state.slots["center_delta"]["b"], [0.5], atol=1e-6)


def test_centered_clipping_goes_on_from_its_last_result():
    strategy = built({"name": "centered_clipping", "args": {"radius": 1.0, "iterations": 1}})
    state = strategy.init(MODEL)
    for moved in (1.0, 3.0, 6.0):  # the centre walks 1, 2, 3 towards updates of 10
        state = finish(strategy, state, [update(n, [10, 0, 0]) for n in range(3)])
        np.testing.assert_allclose(state.model["b"], [moved], atol=1e-6)


def test_the_clients_half_is_the_inner_strategys():
    strategy = built({"name": "median", "args": {"inner": {"name": "scaffold"}}})
    inner = build_strategy("scaffold", None, {})
    assert sorted(strategy.parts(MODEL)) == sorted(inner.parts(MODEL))
    state = strategy.init(MODEL)
    assert {k: digest(v) for k, v in strategy.broadcast(state).items()} == {
        k: digest(v) for k, v in inner.broadcast(inner.init(MODEL)).items()
    }
    assert "robust" in strategy.traits


@pytest.mark.parametrize(
    ("name", "args", "says"),
    [
        ("krum", {"byzantine": -1}, "byzantine"),
        ("trimmed_mean", {"byzantine": 1.5}, "byzantine"),
        ("median", {"inner": {"name": "krum"}}, "inner: expected a strategy that takes a plain mean"),
        ("geometric_median", {"smoothing": 0.0}, "smoothing"),
        ("centered_clipping", {"radius": 0.0}, "radius"),
        ("norm_bound", {"max_norm": -1.0}, "max_norm"),
        ("multikrum", {"select": 0}, "select"),
        ("dnc", {"filtering": 0.0}, "filtering"),
        ("fltrust", {"root": ""}, "root"),
    ],
)
def test_wrong_values_are_refused(name, args, says):
    with pytest.raises(ConfigError, match=says):
        build_strategy(name, None, args)
