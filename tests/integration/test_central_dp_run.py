"""User-level privacy in whole runs: paid once a round, the same after a crash, beside per-example DP, and said so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import toy
from run_kills import survive_kills

from fl_core.errors import BudgetSpentError, LedgerError
from fl_core.export.artifact import read_artifact
from fl_core.privacy.ledger import Ledger
from fl_core.rng import SecretNoise
from fl_core.runlog import read_events
from fl_core.tree import digest
from fl_server.plan.user_privacy import CLIENTS, LEDGER_FILE, LedgerMechanism
from fl_server.rounds.checkpoint import load_checkpoint
from simulation.run import run
from strategies.central.central_dp import CentralDP

MODEL = {"w": np.zeros(3, np.float32)}
BOTH = {
    "privacy": {"epsilon": 8.0},
    "strategy": {
        "name": "central_dp",
        "args": {"epsilon": 6.0, "expected_clients": 2, "sample_rate": 0.5, "target_quantile": 0.5,
                 "inner": {"name": "fedadam"}},
    },
}  # fmt: skip


def mechanism(folder: Path, simulated: bool = False, rounds: int = 3) -> LedgerMechanism:
    strategy = CentralDP(epsilon=6.0, expected_clients=2)
    ledger = Ledger(folder / LEDGER_FILE, simulated=simulated)
    ledger.enrol(CLIENTS, 2)
    return LedgerMechanism(ledger, strategy, strategy.calibrate(rounds), {"delta": MODEL}, lambda _: SecretNoise())


def draw(made: LedgerMechanism, round: int, make=None):
    events = made.strategy.spends(round, made.noise_multiplier)
    return made.release(round, events, make or (lambda noise: {"delta/w": noise.normal(0, "w", (3,)).astype("f4")}))


def test_a_round_that_is_done_again_releases_what_was_released(tmp_path):
    first = draw(mechanism(tmp_path), 1)
    again = mechanism(tmp_path)

    def other_clients_answered(noise):
        raise AssertionError("nothing may be drawn for a round that was released")

    assert digest(draw(again, 1, other_clients_answered)) == digest(first)
    assert len(again.ledger.events(CLIENTS)) == 1
    assert digest(draw(again, 2)) != digest(first)


@pytest.mark.parametrize(("simulated", "charged"), [(False, 2), (True, 1)])
def test_a_crash_before_the_release_is_charged_in_full_but_for_repeatable_noise(tmp_path, simulated, charged):
    def killed(noise):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(mechanism(tmp_path, simulated), 1, killed)
    after = mechanism(tmp_path, simulated)
    draw(after, 1)
    assert len(after.ledger.events(CLIENTS)) == charged
    draw(after, 2)
    if not simulated:
        with pytest.raises(BudgetSpentError):
            draw(after, 3)
        assert after.spent() <= 6.0


def test_a_ledger_of_a_simulation_serves_no_deployment(tmp_path):
    mechanism(tmp_path, simulated=True).ledger.close()
    with pytest.raises(LedgerError):
        mechanism(tmp_path, simulated=False)


def test_both_guarantees_hold_at_once_and_are_said_in_plain_words(tmp_path):
    run_dir = run(toy.config(tmp_path, **BOTH))
    events = list(read_events(run_dir))
    started = events[0]
    assert started["privacy"]["unit"] == "example"
    assert started["user_privacy"]["unit"] == "client"
    finished = [event for event in events if event["kind"] == "round_finished"]
    spent = [event["user_epsilon"] for event in finished]
    assert spent == sorted(spent)
    assert 5.9 < spent[-1] <= 6.0
    assert all(event["quorum"] == 0 for event in finished)
    cohorts = [event["cohort"] for event in events if event["kind"] == "round_started"]
    assert any(len(cohort) != 2 for cohort in cohorts) or len({tuple(cohort) for cohort in cohorts}) > 1
    summary = json.loads((run_dir / "summary.json").read_text())
    assert summary["privacy"]["epsilon_max"] <= 8.0
    user = summary["user_privacy"]
    assert (user["unit"], user["epsilon"], user["simulated"]) == ("client", spent[-1], True)
    # An artefact tells both.
    for number in (1, 2, 3):
        origin = read_artifact(run_dir / "rounds" / f"{number:04d}" / "onnx").origin
        assert origin.user_epsilon == spent[number - 1]
        assert origin.epsilon is not None
    page = (run_dir / "report.html").read_text()
    assert "whole client" in page
    assert "trusted with the updates" in page
    assert (run_dir / LEDGER_FILE).stat().st_mode & 0o077 == 0


def test_scores_of_clients_stay_with_them_where_the_server_has_no_test_set(tmp_path):
    strategy = {"name": "central_dp", "args": {"epsilon": 6.0, "expected_clients": 4}}
    config = toy.config(tmp_path, strategy=strategy, data={"args": {"test": 0}}, run={"rounds": 1})
    (finished,) = [event for event in read_events(run(config)) if event["kind"] == "round_finished"]
    assert finished["evaluation"] is None


def test_a_killed_run_ends_with_the_same_bits_and_the_same_bill(tmp_path):
    config = toy.config(tmp_path, **BOTH, run={"rounds": 3}, clients={"local_steps": 2})
    report = survive_kills(config, tmp_path, 2, seed=3, tick=lambda: None)
    assert report.kills == 2
    assert report.rounds_lost == report.models_differ == report.ledgers_under == report.ledgers_over == 0
    bills = set()
    for path in tmp_path.rglob(LEDGER_FILE):
        ledger = Ledger(path, simulated=True)
        bills.add(tuple(ledger.events(CLIENTS)))
        ledger.close()
        assert load_checkpoint(path.parent / "checkpoint") is not None
    assert len(bills) == 1
