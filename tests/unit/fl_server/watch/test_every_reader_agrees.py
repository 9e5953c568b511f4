"""Live view, status, summary, report and comparison say the same accuracy, epsilon, rounds and bytes of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fl_core.runlog import read_events
from fl_server.report import series
from fl_server.report.build import build_report
from fl_server.report.summary import summarize, write_summary
from fl_server.watch.accuracy import best_accuracy
from fl_server.watch.live import RunProgress
from fl_server.watch.state import RunState, state_of
from fl_server.watch.status import RunStatus, status_of
from fl_server.watch.words import ABSENT, as_bytes, as_percent
from simulation.compare.figures import accuracies, bytes_to, common_form, tabulate
from support.synthetic_run import write_run

SHAPES: list[dict[str, object]] = [
    {},
    {"private": False},
    {"clients": 12, "rounds": 7, "mishaps": True},
    {"published_later": True},
    {"published_later": True, "mishaps": True, "rounds": 5},
]


def progress_of(run_dir: Path) -> RunProgress:
    progress = RunProgress("demo")
    for event in read_events(run_dir):
        progress.update(event)
    return progress


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_accuracy_is_the_same_everywhere(tmp_path: Path, shape: dict[str, object]) -> None:
    run_dir = write_run(tmp_path, **shape)
    accuracy = status_of(run_dir).accuracy
    summary = json.loads(write_summary(run_dir, 1.0).read_text())
    assert accuracy is not None
    assert best_accuracy(summary) == accuracy
    (row,), _ = tabulate({"demo": [state_of(read_events(run_dir))]})
    assert row.accuracy == accuracy
    assert f"accuracy {as_percent(accuracy)}" in progress_of(run_dir).line()
    assert f"<li><b>{as_percent(accuracy)}</b><span>accuracy of the int8 artefact" in build_report(run_dir).read_text()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_epsilon_is_the_same_everywhere(tmp_path: Path, shape: dict[str, object]) -> None:
    run_dir = write_run(tmp_path, **shape)
    epsilon = status_of(run_dir).epsilon_max
    summary = json.loads(write_summary(run_dir, 1.0).read_text())
    line, page = progress_of(run_dir).line(), build_report(run_dir).read_text()
    if shape.get("private", True):
        assert epsilon is not None
        assert summary["privacy"]["epsilon_max"] == epsilon
        assert f"epsilon {epsilon:.2f}" in line
        assert f"ε {epsilon:.2f}" in page
    else:
        assert epsilon is summary["privacy"] is None
        assert "epsilon" not in line
        assert "no DP" in page


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rounds_and_bytes_are_the_same_everywhere(tmp_path: Path, shape: dict[str, object]) -> None:
    run_dir = write_run(tmp_path, **shape)
    status, state = status_of(run_dir), state_of(read_events(run_dir))
    summary = json.loads(write_summary(run_dir, 1.0).read_text())
    page = build_report(run_dir).read_text()
    assert (status.rounds_done, status.rounds) == (summary["rounds_done"], shape.get("rounds", 4))
    assert progress_of(run_dir).state.rounds_done == status.rounds_done
    assert f"{status.rounds_done} of {status.rounds} rounds" in " ".join(page.split())
    assert (status.uplink_bytes, status.downlink_bytes) == (summary["bytes_up"], summary["bytes_down"])
    assert f"{as_bytes(status.uplink_bytes)} up and {as_bytes(status.downlink_bytes)} down" in page
    form = common_form({"demo": [state]})
    assert bytes_to(state, accuracies(state, form)[-1][1], form) == status.uplink_bytes + status.downlink_bytes


def test_it_is_so_after_every_event(tmp_path: Path) -> None:
    state = RunState()
    progress = RunProgress("demo")
    for event in read_events(write_run(tmp_path, mishaps=True, published_later=True)):
        state.update(event)
        progress.update(event)
        status, summary = RunStatus.of(state), summarize(state)
        assert status.rounds_done == summary["rounds_done"] == progress.state.rounds_done
        assert status.epsilon_max == summary["privacy"]["epsilon_max"]
        assert (status.epsilon_max is None) is ("epsilon" not in progress.line())
        if status.epsilon_max is not None:
            assert f"epsilon {status.epsilon_max:.2f}" in progress.line()
        assert (status.accuracy is None) is (summary["accuracy_float"] is None)


def test_artefacts_that_are_published_while_the_next_round_is_under_way_change_no_figure(tmp_path: Path) -> None:
    shape = {"clients": 5, "rounds": 5, "mishaps": True}
    at_once, later = (
        state_of(read_events(write_run(tmp_path / str(late), published_later=late, **shape))) for late in (False, True)
    )
    assert summarize(at_once) == summarize(later)
    assert series.accuracy_lines(at_once) == series.accuracy_lines(later)
    assert series.client_accuracies(at_once) == series.client_accuracies(later)
    assert [each.round for each in at_once.artifacts] == [each.round for each in later.artifacts]


def test_an_artefact_that_its_device_alone_can_run_is_told_without_parity(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path, proven=False)
    summary = json.loads(write_summary(run_dir, 1.0).read_text())
    assert (summary["parity"], len(summary["artifacts"])) == (None, 1)
    assert f"<td>{ABSENT}</td><td>{ABSENT}</td><td>{ABSENT}</td>" in build_report(run_dir).read_text()
    assert state_of(read_events(run_dir)).artifacts[-1].max_lsb is None
    assert status_of(run_dir).finished
