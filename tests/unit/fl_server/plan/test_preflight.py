"""The table of forbidden pairs: every row is refused with its reason, and what is none of them passes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy

from fl_core.errors import ConfigError
from fl_core.parts import RANGES_PART
from fl_core.tree import FixedPointSum
from fl_core.types import ClientUpdate, Part
from fl_server.plan.checks import check_deployed, check_run, problems_of
from fl_server.plan.forbidden import FORBIDDEN, RUN_PARTS
from fl_server.plan.setup import Setup
from fl_server.results.ranges import mean_ranges
from simulation.preflight import preflight
from strategies.base import Strategy, StrategyState
from strategies.fedavg import FedAvg
from strategies.registry import build_strategy

CENTRAL = {"name": "central_dp", "args": {"epsilon": 8.0, "expected_clients": 4}}
TRAITS = {
    "asynchronous rounds": "asynchronous",
    "a robust rule": "robust",
    "noise for whole clients": "central_dp",
    "losses of clients": "uses_losses",
    "step counts of clients": "uses_step_counts",
    "several phases of training": "several_phases",
}
SECTIONS: Mapping[str, Mapping[str, Any]] = {
    "per-example privacy": {"privacy": {"epsilon": 8.0}},
    "running ranges": {"quant": {"ranges": "ema"}},
    "ranges from noisy histograms": {"privacy": {"epsilon": 8.0}, "quant": {"ranges": "dp_histogram"}},
    "a number of clients a round": {"clients": {"per_round": 2}},
    "a rule of selection": {"clients": {"selection": {"name": "availability"}}},
    "over-selection": {"clients": {"per_round": 2, "over_select": 1.5}},
}
SEEN_BY_THE_CONFIG = {("running ranges", "per-example privacy")}
"""The one pair that a config refuses by itself, before there is a strategy."""


def strategy_with(*traits: str) -> Strategy:
    made = dataclasses.replace(FedAvg())
    object.__setattr__(made, "traits", frozenset(traits))
    return made


def test_the_table_names_parts_that_exist_and_every_part_can_be_seen():
    assert RUN_PARTS.keys() == TRAITS.keys() | SECTIONS.keys()
    assert {name for pair in FORBIDDEN for name in (pair.left, pair.right)} == RUN_PARTS.keys()


@pytest.mark.parametrize("pair", FORBIDDEN, ids=lambda pair: f"{pair.left} + {pair.right}")
def test_every_pair_is_refused_with_its_reason(pair, tmp_path: Path):
    parts = (pair.left, pair.right)
    sections = {key: value for name in parts if name in SECTIONS for key, value in SECTIONS[name].items()}
    if parts in SEEN_BY_THE_CONFIG:
        with pytest.raises(ConfigError, match="ema lets raw activation ranges leave a device"):
            toy.config(tmp_path, **sections)
        return
    strategy = strategy_with(*(TRAITS[name] for name in parts if name in TRAITS))
    problems = problems_of(toy.config(tmp_path, **sections), strategy)
    line = f"{pair.field}: {pair.left} cannot go with {pair.right}: {pair.reason}"
    assert line in problems
    assert len(pair.reason) > 20
    for alone in parts:
        own = SECTIONS.get(alone, {})
        traits = (TRAITS[alone],) if alone in TRAITS else ()
        assert line not in problems_of(toy.config(tmp_path, **own), strategy_with(*traits))


def test_all_problems_are_named_at_once(tmp_path: Path):
    config = toy.config(tmp_path, clients={"per_round": 2, "selection": {"name": "speed", "args": {"deadline_s": 9}}})
    with pytest.raises(ConfigError) as refused:
        check_run(config, strategy_with("central_dp", "robust", "asynchronous"))
    assert len(refused.value.problems) == 4


def test_a_run_is_refused_before_anything_starts(tmp_path: Path):
    config = toy.config(tmp_path, strategy=CENTRAL, clients={"per_round": 2})
    with pytest.raises(ConfigError, match=r"clients\.per_round: a number of clients a round cannot go with noise"):
        Setup.of(config, toy.data())
    # A robust rule around the noise is no better than one inside it.
    around = {"name": "nnm", "args": {"byzantine": 1, "inner": CENTRAL}}
    with pytest.raises(ConfigError):
        Setup.of(toy.config(tmp_path, strategy=around), toy.data())


def test_what_may_go_together_passes(tmp_path: Path):
    composed = {"name": "central_dp", "args": {**CENTRAL["args"], "inner": {"name": "scaffold"}}}
    assert Setup.of(toy.config(tmp_path, strategy=composed, privacy={"epsilon": 8.0}), toy.data()).simulated is False
    check_run(toy.config(tmp_path), FedAvg())


KRUM = {"name": "krum", "args": {"byzantine": 1}}
"""It needs 5 updates."""


def test_a_cohort_with_which_a_robust_rule_never_moves_is_refused(tmp_path: Path):
    with pytest.raises(
        ConfigError, match=r"clients\.per_round: expected at least 5, .* with which krum moves .* got 4"
    ):
        Setup.of(toy.config(tmp_path, strategy=KRUM, clients={"per_round": 4}), toy.data(clients=8))
    with pytest.raises(ConfigError, match=r"clients: expected at least 5, .* got 4"):
        preflight(toy.config(tmp_path, strategy=KRUM))
    # What is wrapped needs as many as what is inside.
    around = {"name": "finetune", "args": {"inner": KRUM}}
    with pytest.raises(ConfigError, match="with which finetune moves"):
        preflight(toy.config(tmp_path, strategy=around))
    with pytest.raises(ConfigError, match=r"buffer_size: expected at least 5, .* Krum moves, got 3"):
        build_strategy("fedbuff", None, {"buffer_size": 3, "inner": KRUM})
    preflight(toy.config(tmp_path, strategy=KRUM, data={"args": {"clients": 5}}))


def test_more_clients_a_round_than_there_are_is_refused(tmp_path: Path):
    with pytest.raises(
        ConfigError, match=r"clients\.per_round: expected at most 4, the clients of this data set, got 5"
    ):
        preflight(toy.config(tmp_path, clients={"per_round": 5}))
    preflight(toy.config(tmp_path, clients={"per_round": 4}))


@pytest.mark.parametrize("delta", [0.999, 0.5, 1 / 45])
def test_a_delta_at_which_a_client_could_publish_an_example_is_refused(tmp_path: Path, delta: float):
    with pytest.raises(
        ConfigError, match=r"privacy\.delta: expected below 1/45, one over the examples of client client-0"
    ):
        preflight(toy.config(tmp_path, privacy={"epsilon": 8.0, "delta": delta}))
    with pytest.raises(ConfigError, match=r"^strategy\.args\.delta: expected above 0, below 1/exp.* got 0\.25"):
        build_strategy("central_dp", None, {"epsilon": 8.0, "expected_clients": 4, "delta": 0.25})
    preflight(toy.config(tmp_path, privacy={"epsilon": 8.0, "delta": 0.02}))


def test_an_attack_is_refused_where_boards_are_real(tmp_path: Path):
    attacked = toy.config(tmp_path, simulation={"attack": {"name": "sign_flip"}})
    with pytest.raises(ConfigError, match=r"simulation\.attack: sign_flip: no board"):
        check_deployed(attacked)
    check_deployed(toy.config(tmp_path, simulation={"seconds_per_round": 3.0}))


def test_noise_for_whole_clients_goes_around_all_others(tmp_path: Path):
    with pytest.raises(ConfigError, match="goes around all others, got CentralDP inside FineTune"):
        preflight(toy.config(tmp_path, strategy={"name": "finetune", "args": {"inner": CENTRAL}}))
    beside = {**CENTRAL["args"], "inner": {"name": "finetune", "args": {"inner": {"name": "fedavgm"}}}}
    preflight(toy.config(tmp_path, strategy={"name": "central_dp", "args": beside}))
    bounded = {**CENTRAL["args"], "inner": {"name": "finetune", "args": {"inner": {"name": "qfedavg"}}}}
    with pytest.raises(ConfigError, match="losses weigh the sum"):
        preflight(toy.config(tmp_path, strategy={"name": "central_dp", "args": bounded}))


@pytest.mark.parametrize("listed", [False, True])
def test_running_ranges_are_the_weighted_mean_whether_updates_are_summed_or_listed(listed):
    pairs = [([-1.0, 1.0], 1), ([-4.0, 2.0], 3)]
    updates = [
        ClientUpdate("t", f"c{n}", 0, {RANGES_PART: Part({"1": np.array(pair, np.float32)})}, weight, 1)
        for n, (pair, weight) in enumerate(pairs)
    ]
    state = StrategyState({}, updates=tuple(updates))
    if not listed:
        total = FixedPointSum()
        for update in updates:
            total = total.add(update.parts[RANGES_PART].tensors, update.weight)
        state = StrategyState({}, sums={RANGES_PART: total})
    assert mean_ranges(state, {}) == {"1": (-3.25, 1.75)}
    assert mean_ranges(StrategyState({}), {"1": (0.0, 1.0)}) == {"1": (0.0, 1.0)}
