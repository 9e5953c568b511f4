"""kill -9 at any moment: no round is lost, no epsilon forgotten, and the final model has the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest
import toy
from run_kills import KillReport, survive_kills

from fl_core.errors import RunFolderError
from fl_core.files import write_atomic
from fl_core.run_folder import run_lock
from fl_core.tree import digest
from fl_server.rounds.checkpoint import load_checkpoint
from simulation.run import resume, run


def kill(folder: Path, kills: int) -> KillReport:
    config = toy.config(
        folder, privacy={"epsilon": 8.0}, strategy={"name": "fedavgm"}, run={"rounds": 4}, clients={"local_steps": 2}
    )
    return survive_kills(config, folder, kills, seed=5, tick=lambda: None)


def check(report: KillReport, kills: int) -> None:
    assert report.kills == kills
    assert report.rounds_lost == report.models_differ == report.ledgers_under == report.ledgers_over == 0


def test_a_killed_run_ends_with_the_same_bits(tmp_path):
    check(kill(tmp_path, 6), 6)


@pytest.mark.slow
def test_many_kills_end_with_the_same_bits(tmp_path):
    check(kill(tmp_path, 60), 60)


def test_workers_do_not_change_the_bits(tmp_path):
    digests = []
    for workers in (1, 2):
        config = toy.config(tmp_path / str(workers), privacy={"epsilon": 8.0})
        checkpoint = load_checkpoint(run(config, workers=workers) / "checkpoint")
        assert checkpoint is not None
        digests.append(digest(checkpoint.state.model))
    assert digests[0] == digests[1]


def test_a_run_folder_is_not_started_twice_and_not_resumed_with_another_config(tmp_path):
    run_dir = run(toy.config(tmp_path))
    with pytest.raises(RunFolderError, match="holds a run already"):
        run(toy.config(tmp_path))
    text = (run_dir / "config.yaml").read_text()
    write_atomic(run_dir / "config.yaml", text.replace("rounds: 3", "rounds: 5").encode())
    (run_dir / "events.jsonl").write_text("")
    with pytest.raises(RunFolderError, match="another config"):
        resume(run_dir)


def test_two_processes_never_work_on_one_run(tmp_path):
    run_dir = run(toy.config(tmp_path))
    with run_lock(run_dir), pytest.raises(RunFolderError, match="another process"):
        resume(run_dir)
    resume(run_dir)


def test_resuming_where_there_is_nothing_says_so(tmp_path):
    with pytest.raises(RunFolderError, match="expected a run folder"):
        resume(tmp_path)
