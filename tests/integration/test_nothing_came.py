"""A run in which no update is ever accepted ends with its reason, publishes nothing, and can be tried again."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

import pytest
import toy
from typer.testing import CliRunner

from fl_core.config import Config, to_yaml
from fl_core.errors import NoUpdateError, StonecropError
from fl_core.files import write_atomic
from fl_core.runlog import Event, read_events
from fl_core.tree import digest
from fl_server.app import run_deployed
from fl_server.report.build import build_report
from fl_server.rounds.checkpoint import load_checkpoint
from fl_server.rounds.in_vain import PATIENCE_ROUNDS
from fl_server.watch.failure import Failure
from simulation.cli import app
from simulation.compare.run import Cell, refuse_failed, run_cells
from simulation.engines.clients import build_trainer, client_app
from simulation.engines.in_process import InProcessGrid, nodes_of, run_app
from simulation.run import resume, run
from support.failing import BROKEN, ONE_LINE, FailsAtHome

FAILS = {"name": None, "factory": "support.failing:FailsAtHome"}
EVERYBODY = f"run toy: no update was accepted in 1 round, so nothing was trained: 4 of 4 clients failed: client-0, client-1, client-2, client-3: {ONE_LINE}"  # noqa: E501


@pytest.fixture
def everyone_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FailsAtHome, "everyone", True)


def config(out: Path, **sections: object) -> Config:
    return toy.config(out, **{"strategy": FAILS, **sections})


def final(run_dir: Path) -> str:
    checkpoint = load_checkpoint(run_dir / "checkpoint")
    assert checkpoint is not None
    return digest(checkpoint.state.model)


def kinds(run_dir: Path, kind: str) -> list[Event]:
    return [event for event in read_events(run_dir) if event["kind"] == kind]


@pytest.mark.usefixtures("everyone_fails")
def test_the_first_round_in_which_all_fail_ends_a_simulation_with_their_reason(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(to_yaml(config(tmp_path / "runs", run={"rounds": 100})))
    result = CliRunner().invoke(app, ["run", str(path)])
    assert result.exit_code == NoUpdateError.exit_code == 6
    lines = [line for line in result.stderr.splitlines() if ONE_LINE in line]
    assert lines == [
        f"toy: round 1: 4 of 4 clients failed: client-0, client-1, client-2, client-3: {ONE_LINE}",
        f"error: {EVERYBODY}",
    ]
    assert "┃" not in result.stderr, "a table of the untrained net"
    run_dir = tmp_path / "runs" / "toy"
    assert not (run_dir / "rounds").exists()
    assert not (run_dir / "summary.json").exists()
    assert Failure.at(run_dir).is_final
    for _ in range(2):  # once as the run left it, once made again
        assert EVERYBODY in (run_dir / "report.html").read_text()
        assert CliRunner().invoke(app, ["report", str(run_dir)]).exit_code == 0


def test_a_resumed_run_says_the_same_and_is_the_one_that_never_failed_once_the_cause_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FailsAtHome, "everyone", True)
    run_dir = tmp_path / "toy"
    for start in (lambda: run(config(tmp_path)), lambda: resume(run_dir)):
        with pytest.raises(NoUpdateError) as failed:
            start()
        assert failed.value.problems == (EVERYBODY,)
    monkeypatch.setattr(FailsAtHome, "everyone", False)
    resume(run_dir)
    assert Failure.at(run_dir).read() is None
    assert "Why this run stopped" not in (run_dir / "report.html").read_text()
    assert final(run_dir) == final(run(config(tmp_path / "never")))


def test_a_run_that_is_tried_again_spends_no_privacy_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = {"privacy": {"epsilon": 8.0}, "run": {"rounds": 2}}
    monkeypatch.setattr(FailsAtHome, "everyone", True)
    with pytest.raises(NoUpdateError):
        run(config(tmp_path, **private))
    monkeypatch.setattr(FailsAtHome, "everyone", False)
    run_dirs = resume(tmp_path / "toy"), run(config(tmp_path / "never", **private))
    spent, never = (
        {(e["client_id"], e["round"]): e["epsilon"] for e in kinds(run_dir, "client_finished")} for run_dir in run_dirs
    )
    assert spent == never
    assert len({final(run_dir) for run_dir in run_dirs}) == 1


@pytest.mark.parametrize(
    ("sections", "helps"),
    [
        ({"clients": {"optimizer": {"learning_rate": 1e30}}}, "a smaller clients.optimizer.learning_rate usually"),
        (
            {"privacy": {"epsilon": 8.0, "clip_norm": 1e6}},
            "a smaller clients.optimizer.learning_rate or privacy.clip_norm usually",
        ),
    ],
    ids=["rate", "clip"],
)
def test_updates_that_all_overflow_are_one_line_that_says_what_helps(tmp_path, sections, helps) -> None:
    with pytest.raises(NoUpdateError, match="4 of 4 clients sent an update that was rejected") as failed:
        run(toy.config(tmp_path, **sections))
    (line,) = failed.value.problems
    assert f"{helps} helps" in line


def test_an_asynchronous_run_ends_likewise(tmp_path: Path) -> None:
    strategy = {"name": "fedbuff", "args": {"buffer_size": 2}}
    rate = {"clients": {"optimizer": {"learning_rate": 1e30}}}
    with pytest.raises(NoUpdateError, match=r"no update was accepted in 1 round.*4 of 4 clients"):
        run(toy.config(tmp_path, strategy=strategy, **rate))
    assert not (tmp_path / "toy" / "rounds").exists()


def test_noise_for_whole_clients_is_released_as_if_they_had_answered_and_the_end_says_that_none_did(tmp_path) -> None:
    args = {"epsilon": 6.0, "expected_clients": 4}
    sections = {"strategy": {"name": "central_dp", "args": args}, "clients": {"optimizer": {"learning_rate": 1e30}}}
    for start in (lambda: run(toy.config(tmp_path, **sections)), lambda: resume(tmp_path / "toy")):
        with pytest.raises(NoUpdateError, match="no update was accepted in 3 rounds"):
            start()
        assert len(kinds(tmp_path / "toy", "round_published")) == 3
        assert not kinds(tmp_path / "toy", "run_finished")


@pytest.mark.usefixtures("everyone_fails")
def test_a_server_gives_its_devices_some_rounds_and_keeps_and_logs_the_reason(tmp_path, caplog) -> None:
    run_dir = tmp_path / "toy"
    plain = config(tmp_path, run={"rounds": 100})
    write_atomic(run_dir / "config.yaml", to_yaml(plain).encode())
    federation = toy.data()
    boards = client_app(build_trainer(plain, federation, run_dir))
    grid = InProcessGrid(nodes_of(federation.clients), partial(run_app, boards))
    with pytest.raises(NoUpdateError, match=f"accepted in {PATIENCE_ROUNDS} rounds.*: {re.escape(ONE_LINE)}"):
        run_deployed(grid, run_dir)
    failure = Failure.at(run_dir).read()
    assert failure is not None
    assert (failure["kind"], failure["exit_code"], failure["final"]) == ("NoUpdateError", 6, True)
    assert failure["reason"] in (run_dir / "report.html").read_text()
    said = [record.message for record in caplog.records if "4 of 4 clients failed" in record.message]
    assert len(said) == 2, "once in its round, and once as what ended the run"


def test_a_client_that_never_succeeded_is_named_in_table_summary_and_report(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(to_yaml(config(tmp_path / "runs", data={"factory": "support.failing:rooms"})))
    result = CliRunner().invoke(app, ["run", str(path)])
    assert result.exit_code == 0
    named = f"1 of 3 clients never had an update accepted: {BROKEN}: failed: {ONE_LINE}"
    lines = result.stderr.splitlines()
    assert f"clients left out: {named}" in lines
    assert [line for line in lines if "clients failed" in line] == [
        f"toy: round 1: 1 of 3 clients failed: {BROKEN}: {ONE_LINE}"
    ], "later rounds bring nothing new"
    run_dir = tmp_path / "runs" / "toy"
    summary = json.loads((run_dir / "summary.json").read_text())
    assert summary["findings"] == [{"topic": "clients left out", "text": named}]
    assert named in (run_dir / "report.html").read_text()


def test_nothing_is_published_before_the_first_update_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FailsAtHome, "everyone", True)
    monkeypatch.setattr("fl_server.rounds.in_vain.is_hopeless", lambda state, simulated, least: False)

    def mend(event: Event) -> None:
        monkeypatch.setattr(FailsAtHome, "everyone", event["round"] == 1)

    run_dir = run(config(tmp_path), listeners=[mend])
    assert [event["round"] for event in kinds(run_dir, "artifact_published")] == [2, 3]
    assert sorted(path.name for path in (run_dir / "rounds").iterdir()) == ["0002", "0003"]


@pytest.mark.slow
def test_a_run_of_a_comparison_that_fails_in_another_process_is_the_same(tmp_path: Path) -> None:
    rate = {"clients": {"optimizer": {"learning_rate": 1e30}}, "run": {"name": "bad"}}
    configs = [toy.config(tmp_path, **rate), toy.config(tmp_path, run={"name": "good"})]
    cells = [Cell(each.run.name, 7, each, tmp_path / each.run.name) for each in configs]
    ended = {cell.strategy: error for cell, error in run_cells(cells, 2)}
    assert ended["good"] is None
    with pytest.raises(NoUpdateError, match=r"^bad: run bad: no update was accepted"):
        refuse_failed({name: error for name, error in ended.items() if error})


@pytest.mark.slow
def test_an_error_that_cannot_leave_its_process_is_told_all_the_same(tmp_path: Path) -> None:
    fails = {"name": None, "factory": "support.failing:FailsAnywhere"}
    with pytest.raises(NoUpdateError, match=r"TwoNumbersError: not 1 but 2 \(.*failing\.py, line"):
        run(toy.config(tmp_path, strategy=fails), workers=2)


def test_a_comparison_prints_the_table_of_what_was_done_and_ends_with_the_code_of_what_failed(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(to_yaml(toy.config(tmp_path, run={"rounds": 1}, export={"formats": []})))
    strategies = "fedavg,support.failing:FailsAtHome"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FailsAtHome, "everyone", True)
        words = ["compare", str(path), "--strategies", strategies, "--out", str(tmp_path / "out"), "--workers", "1"]
        result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 6, result.stderr
    assert [row["strategy"] for row in json.loads(result.stdout)["rows"]] == ["fedavg"]
    assert "error: support.failing-FailsAtHome-seed7: run support.failing-FailsAtHome-seed7: no update" in result.stderr
    again = CliRunner().invoke(app, [*words, "--json"])
    assert again.exit_code == 0, again.stderr
    assert len(json.loads(again.stdout)["rows"]) == 2


def test_a_companion_that_fails_costs_the_run_no_figure(tmp_path: Path) -> None:
    plain = config(tmp_path, run={"name": "beside"})
    (tmp_path / "beside.yaml").write_text(to_yaml(plain))
    whole = toy.config(tmp_path, run={"companion": str(tmp_path / "beside.yaml")})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FailsAtHome, "everyone", True)
        with pytest.raises(NoUpdateError, match=r"^run beside: no update was accepted"):
            run(whole)
    run_dir = tmp_path / "toy"
    assert json.loads((run_dir / "summary.json").read_text())["rounds_done"] == 3
    assert "beside: run beside: no update was accepted" in (run_dir / "report.html").read_text()


def test_a_run_that_fails_before_its_first_event_has_a_report_with_the_reason(tmp_path: Path) -> None:
    Failure.at(tmp_path).write(StonecropError("run toy: its data is gone"))
    assert "run toy: its data is gone" in build_report(tmp_path).read_text()
