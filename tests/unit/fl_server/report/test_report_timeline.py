"""Accuracy over time: the virtual clock's where a run has one, else the wall's from the start of the first round."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fl_core.runlog import Event, read_events
from fl_server.report import series
from fl_server.report.build import build_report
from fl_server.report.timeline import accuracy_over_time, elapsed_s, is_virtual
from fl_server.watch.state import state_of
from support.synthetic_run import accuracy_after, write_run


def walled_run(folder: Path, **shape: object) -> Path:
    """A run whose rounds took 10 s each; its start took 100 s before them."""
    run_dir = write_run(folder, **shape)
    events = []
    for event in read_events(run_dir):
        ended = event["kind"] == "round_finished"
        at_s = 0.0 if event["kind"] == "run_started" else 100.0 + 10.0 * (event["round"] - (not ended))
        events.append({**event, "time": 1e9 + at_s})
    (run_dir / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    return run_dir


def walled(folder: Path) -> list[Event]:
    """The events of such a run of 3 rounds."""
    return list(read_events(walled_run(folder, rounds=3)))


def timed(events: list[Event]) -> list[Event]:
    """The same with a virtual clock, on which a round takes a minute."""
    rounds = [event for event in events if event["kind"] == "round_finished"]
    return [*events, *({**e, "kind": "round_timed", "virtual_s": 60.0 * e["round"]} for e in rounds)]


def test_wall_time_starts_with_the_first_round(tmp_path: Path) -> None:
    assert elapsed_s(state_of(walled(tmp_path))) == {0: 0.0, 1: 10.0, 2: 20.0, 3: 30.0}
    assert not is_virtual(state_of(walled(tmp_path / "again")))


def test_the_virtual_clock_goes_before_the_walls(tmp_path: Path) -> None:
    state = state_of(timed(walled(tmp_path)))
    assert is_virtual(state)
    assert elapsed_s(state) == {0: 0.0, 1: 60.0, 2: 120.0, 3: 180.0}


def test_accuracies_are_those_per_round_at_other_places(tmp_path: Path) -> None:
    state = state_of(timed(walled(tmp_path)))
    over_time, per_round = accuracy_over_time(state), series.accuracy_lines(state)
    assert [line.name for line in over_time] == [line.name for line in per_round]
    assert [value for line in over_time for _, value in line.points] == [
        value for line in per_round for _, value in line.points
    ]
    assert over_time[0].points[3] == pytest.approx((180.0, accuracy_after(3)))


def test_rounds_before_any_took_virtual_time_are_at_its_start(tmp_path: Path) -> None:
    events = [e for e in timed(walled(tmp_path)) if (e["kind"], e["round"]) != ("round_timed", 1)]
    assert [at_s for at_s, _ in accuracy_over_time(state_of(events))[0].points] == [0.0, 0.0, 120.0, 180.0]


@pytest.mark.parametrize(
    ("shape", "drawn"), [({}, True), ({"rounds": 0}, False), ({"test_set": False}, False)], ids=str
)
def test_a_report_draws_it_where_there_is_something_to_draw(
    tmp_path: Path, shape: dict[str, object], drawn: bool
) -> None:
    text = build_report(walled_run(tmp_path, **shape)).read_text(encoding="utf-8")
    assert ("Accuracy over time" in text) is drawn
    assert ("of wall time" in text) is drawn
