"""The series of a report are exactly the figures that the events hold, and absent where the events hold none."""

from __future__ import annotations

from pathlib import Path

import pytest

from fl_core.runlog import Event, read_events
from fl_server.report import series
from fl_server.watch.state import RunState, state_of
from support.synthetic_run import accuracy_after, write_run


def events_of(folder: Path, **shape: object) -> list[Event]:
    return list(read_events(write_run(folder, **shape)))


def run_of(folder: Path, **shape: object) -> RunState:
    return state_of(events_of(folder, **shape))


def test_accuracy_lines_start_at_the_untrained_model_and_leave_out_what_was_not_measured(tmp_path: Path) -> None:
    lines = {line.name: line.points for line in series.accuracy_lines(run_of(tmp_path, rounds=3))}
    assert list(lines) == ["float", "fake-quant", "int8 in its runtime"]
    assert [number for number, _ in lines["float"]] == [0, 1, 2, 3]
    assert [number for number, _ in lines["int8 in its runtime"]] == [1, 2, 3]
    assert lines["float"][3][1] == pytest.approx(accuracy_after(3))


def test_without_a_test_set_there_is_no_accuracy_line(tmp_path: Path) -> None:
    assert series.accuracy_lines(run_of(tmp_path, test_set=False)) == ()


def test_epsilon_of_a_client_is_cumulative_and_absent_without_dp(tmp_path: Path) -> None:
    lines = series.epsilon_lines(run_of(tmp_path / "dp", clients=12, rounds=3))
    assert len(lines) == 12
    for line in lines:
        values = [value for _, value in line.points]
        assert values == sorted(values)
    assert series.epsilon_lines(run_of(tmp_path / "no_dp", private=False)) == ()


def test_clients_come_worst_first_with_their_last_figures(tmp_path: Path) -> None:
    rows = series.client_accuracies(run_of(tmp_path, clients=5, rounds=2))
    assert rows[0].client_id == "person 5"
    assert [row.accuracy for row in rows] == sorted(row.accuracy or 0.0 for row in rows)
    assert rows[-1].accuracy_float == pytest.approx(accuracy_after(2))


def test_traffic_has_every_round_both_ways(tmp_path: Path) -> None:
    up, down = series.traffic_lines(run_of(tmp_path, clients=3, rounds=2))
    assert up.points == ((1, 120_000), (2, 120_000))
    assert down.points == ((1, 123_000), (2, 123_000))


def test_everything_that_was_left_out_is_named_with_its_reason(tmp_path: Path) -> None:
    rows = run_of(tmp_path, rounds=4, mishaps=True).mishaps
    assert [(row.round, row.who, row.what) for row in rows] == [
        (2, "person 2", "rejected by the server"),
        (3, "onnx", "artefact vetoed"),
    ]
    assert all("expected" in row.reason for row in rows)


def test_a_vetoed_last_artefact_leaves_the_last_good_ones_accuracy(tmp_path: Path) -> None:
    state = run_of(tmp_path, rounds=3, mishaps=True)
    newest = series.last_evaluation(state)
    assert newest["accuracy_float"] == pytest.approx(accuracy_after(3))
    assert newest["accuracy_int8"] == pytest.approx(accuracy_after(2) - 0.001)
    assert newest["groups"]["person 9"] == pytest.approx(accuracy_after(2) - 0.1)
    assert series.last_artifacts(state)[0].round == 2


def test_the_untrained_model_is_not_taken_for_a_result(tmp_path: Path) -> None:
    assert series.last_evaluation(run_of(tmp_path, rounds=0)) == {}


def test_largest_epsilon_is_that_of_any_round_even_if_the_last_cohort_spent_less(tmp_path: Path) -> None:
    events = events_of(tmp_path, rounds=3)
    lowered = [dict(event) | ({"epsilon_max": 0.1} if event["kind"] == "round_finished" else {}) for event in events]
    assert state_of(lowered).epsilon_max == pytest.approx(0.7 * 3**0.5)


def test_seconds_of_a_resumed_run_are_those_of_all_its_rounds(tmp_path: Path) -> None:
    events = events_of(tmp_path, rounds=4)
    last_process = [dict(event) | ({"seconds": 2.6} if event["kind"] == "run_finished" else {}) for event in events]
    assert state_of(last_process).seconds == 10.0


def test_lines_that_lie_on_each_other_become_one_and_no_client_is_lost() -> None:
    a, b = ((1, 0.5), (2, 0.7)), ((1, 0.6),)
    lines = [series.Line("p1", a), series.Line("p2", b), series.Line("p3", a)]
    assert [line.name for line in series.merge_alike(lines)] == ["p1 and 1 more", "p2"]
    assert [line.name for line in series.merge_alike([lines[0], lines[2]])] == ["all 2 clients"]
    assert [line.name for line in series.merge_alike(lines[:1])] == ["p1"]
    assert series.merge_alike([]) == ()
