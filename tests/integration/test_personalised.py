"""Client state in whole runs: what stays at home does not travel, personal figures are shown, a kill changes no bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import toy
from run_kills import survive_kills

from fl_core.privacy.ledger import Ledger
from fl_core.runlog import read_events
from fl_server.rounds.checkpoint import load_checkpoint
from simulation.run import run


def finished(folder: Path, strategy: str, **args: object) -> tuple[Path, dict[str, object]]:
    run_dir = run(toy.config(folder / strategy, strategy={"name": strategy, "args": args}))
    return run_dir, json.loads((run_dir / "summary.json").read_text())


def test_a_personal_head_stays_home_and_its_accuracy_is_shown(tmp_path):
    average_dir, average = finished(tmp_path, "fedavg")
    personal_dir, personal = finished(tmp_path, "fedper")
    head = 4 * (3 * 48 + 3)  # bytes of the last layer
    updates = 3 * 4  # rounds times clients
    assert average["bytes_up"] - personal["bytes_up"] >= updates * head
    checkpoint = load_checkpoint(personal_dir / "checkpoint")
    start = load_checkpoint(average_dir / "checkpoint")
    assert checkpoint is not None
    assert start is not None
    assert (checkpoint.state.model["3.weight"] != start.state.model["3.weight"]).any()

    scores = {
        event["client_id"]: event["personal_score"]
        for event in read_events(personal_dir)
        if event["kind"] == "client_trained"
    }
    assert len(scores) == 4
    assert all(event["visibility"] == "simulation" for event in read_events(personal_dir) if "personal_score" in event)
    assert personal["personal_accuracy_mean"] == pytest.approx(sum(scores.values()) / 4)
    worst = personal["personal_accuracy_worst"]
    assert worst["accuracy"] == min(scores.values()) == scores[worst["client_id"]]
    # blobs are easy: a personal model is far better than chance, which is one of three
    assert personal["personal_accuracy_mean"] > 0.6
    report = (personal_dir / "report.html").read_text()
    assert "Personal models" in report
    assert worst["client_id"] in report

    assert average["personal_accuracy_mean"] is average["personal_accuracy_worst"] is None
    assert "Personal models" not in (average_dir / "report.html").read_text()


def test_a_killed_run_with_client_state_ends_with_the_same_bits(tmp_path):
    """SCAFFOLD's controls decide the global model, Ditto's models are in the ledger: both as if nobody had killed."""
    strategy = {"name": "ditto", "args": {"inner": {"name": "scaffold"}}}
    config = toy.config(
        tmp_path, privacy={"epsilon": 8.0}, strategy=strategy, run={"rounds": 4}, clients={"local_steps": 2}
    )
    report = survive_kills(config, tmp_path, kills=4, seed=3, tick=lambda: None)
    assert report.kills == 4
    assert report.rounds_lost == report.models_differ == report.ledgers_under == report.ledgers_over == 0
    reference, *others = [client_states(folder) for folder in sorted(tmp_path.glob("run-*"))]
    assert others
    assert all(state is not None for state in reference.values())
    assert all(other == reference for other in others)


def client_states(run_dir: Path) -> dict[str, bytes | None]:
    ledger = Ledger(run_dir / "clients" / "ledger.sqlite", simulated=True)
    try:
        return {name: ledger.state(name) for name in toy.data().clients}
    finally:
        ledger.close()
