"""A run that is at work is nobody else's: other commands are refused and change nothing, and it writes nowhere else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import toy
from typer.testing import CliRunner

from fl_core.config import to_yaml
from fl_core.errors import RunFolderError
from fl_core.run_folder import run_lock
from fl_core.runlog import Event, is_finished
from simulation.cli import app
from simulation.run import resume, run


def fl_sim(*args: str | Path) -> Any:
    return CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "200", "TERM": "dumb"})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "toy.yaml"
    path.write_text(to_yaml(toy.config(tmp_path / "runs", run={"rounds": 2})))
    return path


def test_every_command_that_writes_is_refused_while_a_run_is_at_work(tmp_path: Path, config_file: Path) -> None:
    run_dir = tmp_path / "runs" / "toy"
    answers: list[Any] = []
    before: list[dict[str, bytes]] = []

    def others_come(event: Event) -> None:
        if event["kind"] == "round_finished" and event["round"] == 1:
            before.append(contents(run_dir))
            for overrides in ([], ["run.rounds=3"]):
                answers.append(fl_sim("run", config_file, *overrides, "--overwrite"))
            answers.append(fl_sim("run", config_file))
            answers.append(fl_sim("resume", run_dir))
            before.append(contents(run_dir))
            assert fl_sim("report", run_dir).exit_code == 0

    run(toy.config(tmp_path / "runs", run={"rounds": 2}), listeners=[others_come])
    assert before[0] == before[1]
    assert len(answers) == 4
    for answer in answers:
        assert answer.exit_code == RunFolderError.exit_code == 8
        assert len(answer.stderr.splitlines()) == 1
        assert f"error: {run_dir}: another process" in answer.stderr
    assert is_finished(run_dir)


def test_a_comparison_is_one_command_s(tmp_path: Path, config_file: Path) -> None:
    out = tmp_path / "compared"
    with run_lock(out):
        second = fl_sim("compare", config_file, "--strategies", "fedavg", "--out", out)
    assert (second.exit_code, second.stderr.count("\n")) == (8, 1)
    assert str(out) in second.stderr
    assert not out.exists()


def test_a_companion_is_not_gone_on_with_beside_its_run_nor_deleted_under_whoever_does(tmp_path: Path) -> None:
    companion = tmp_path / "other.yaml"
    companion.write_text(to_yaml(toy.config(tmp_path / "runs", run={"name": "other", "rounds": 1})))
    config = toy.config(tmp_path / "runs", run={"rounds": 1, "companion": str(companion)})
    run_dir = tmp_path / "runs" / "toy"
    inside = run_dir / "companion" / "other"
    refusals: list[str] = []

    def beside(event: Event) -> None:
        if event["kind"] == "run_started":
            with pytest.raises(RunFolderError, match="is at work on it") as refused:
                resume(inside)
            refusals.append(str(refused.value))

    run(config, listeners=[beside])
    assert len(refusals) == 2  # while the run itself was under way, and while its companion was
    before = contents(run_dir)
    with run_lock(inside):
        for command in (lambda: run(config, overwrite=True), lambda: resume(run_dir)):
            with pytest.raises(RunFolderError, match="companion/other: another process"):
                command()
    assert contents(run_dir) == before


def delete(folder: Path) -> None:
    shutil.rmtree(folder)


def replace_by_another_run(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))
    shutil.copytree(folder.with_name("moved"), folder)


@pytest.mark.parametrize("happens", [delete, replace_by_another_run])
def test_a_run_whose_folder_is_taken_away_ends_and_writes_nothing_there(
    tmp_path: Path, happens: Callable[[Path], None]
) -> None:
    run_dir = tmp_path / "runs" / "toy"
    foreign: list[dict[str, bytes]] = []

    def by_hand(event: Event) -> None:
        if event["kind"] == "round_published" and event["round"] == 1:  # no artefact is in the making
            happens(run_dir)
            foreign.append(contents(run_dir))

    with pytest.raises(RunFolderError, match="was deleted, moved or replaced"):
        run(toy.config(tmp_path / "runs"), listeners=[by_hand])
    assert contents(run_dir) == foreign[0]
    assert run_dir.exists() == (happens is not delete)


def test_a_run_that_was_moved_goes_on_where_it_is_now(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"

    def by_hand(event: Event) -> None:
        if event["kind"] == "round_published" and event["round"] == 1:  # no artefact is in the making
            (tmp_path / "runs" / "toy").rename(elsewhere)

    with pytest.raises(RunFolderError, match="resume it there"):
        run(toy.config(tmp_path / "runs"), listeners=[by_hand])
    assert is_finished(resume(elsewhere))


def test_overwriting_deletes_the_old_run_alone(tmp_path: Path, config_file: Path) -> None:
    run_dir = tmp_path / "runs" / "toy"
    for name in ("toy", "neighbour"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.yaml").write_text("an old one")
        (tmp_path / "runs" / name / "left_over").write_text("x")
    assert fl_sim("run", config_file, "--overwrite").exit_code == 0
    assert not (run_dir / "left_over").exists()
    assert is_finished(run_dir)
    assert (tmp_path / "runs" / "neighbour" / "left_over").exists()
    assert not list((tmp_path / "runs").glob(".*.deleted"))


def test_a_run_whose_overwriting_was_killed_says_so(tmp_path: Path, config_file: Path) -> None:
    run_dir = tmp_path / "runs" / "toy"
    (tmp_path / "runs" / ".toy.deleted").mkdir(parents=True)
    refused = fl_sim("resume", run_dir)
    assert (refused.exit_code, refused.stderr.count("\n")) == (8, 1)
    assert "it was being overwritten: run it anew" in refused.stderr
    assert fl_sim("run", config_file).exit_code == 0
    assert is_finished(run_dir)
