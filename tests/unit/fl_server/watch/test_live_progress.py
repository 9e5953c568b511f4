"""Live progress shows what the events say, and one plain line a round where there is no terminal."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from fl_core.runlog import Event, read_events
from fl_server.report.privacy_words import SIMULATED_NOISE, model_sentence
from fl_server.report.summary import write_summary
from fl_server.report.tables import closing_table
from fl_server.watch.live import LiveProgress, RunProgress
from support.synthetic_run import write_run


def events_of(folder: Path, **shape: object) -> list[Event]:
    return list(read_events(write_run(folder, **shape)))


def shown(events: list[Event], terminal: bool, replayed: list[Event] | None = None) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=160, color_system=None)
    with LiveProgress(console) as progress:
        progress.replay(replayed or [])
        for event in events:
            progress(event)
    return stream.getvalue()


def test_without_a_terminal_there_is_one_plain_line_a_round(tmp_path: Path) -> None:
    lines = shown(events_of(tmp_path, rounds=3), terminal=False).splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("demo: round 2 of 3: 3 of 3 clients, accuracy 64.6 %, epsilon 1.27, 2.5 s left")
    assert not any("\x1b" in line for line in lines)


def test_on_a_terminal_a_bar_shows_rounds_clients_accuracy_epsilon_and_time_left(tmp_path: Path) -> None:
    events = [event for event in events_of(tmp_path, rounds=3) if event["kind"] != "run_finished"]
    text = shown(events[:-8], terminal=True)
    assert "round 2 of 3" in text
    assert "accuracy 64.6 %" in text
    assert "epsilon 1.27" in text
    assert "2.5 s left" in text


def test_left_out_clients_are_counted_and_not_among_those_that_answered(tmp_path: Path) -> None:
    lines = shown(events_of(tmp_path, rounds=3, mishaps=True), terminal=False).splitlines()
    assert lines[1].startswith("demo: round 2: 1 of 3 clients sent an update that was rejected: person 2: ")
    assert "2 of 3 clients (1 left out)" in lines[2]
    assert "left out" not in lines[3]


def test_the_reason_stands_on_a_terminal_too(tmp_path: Path) -> None:
    text = shown(events_of(tmp_path, rounds=3, mishaps=True), terminal=True)
    assert text.count("demo: round 2: 1 of 3 clients sent an update that was rejected: person 2: ") == 1


def test_a_resumed_run_goes_on_where_it_stood(tmp_path: Path) -> None:
    events = events_of(tmp_path, rounds=4)
    cut = next(number for number, event in enumerate(events) if event["round"] == 3)
    resumed: Event = {"kind": "run_resumed", "run": "demo", "round": 2, "rounds_done": 2}
    lines = shown([resumed, *events[cut:]], terminal=False, replayed=events[:cut]).splitlines()
    assert [line.split(":")[1].strip() for line in lines] == ["round 3 of 4", "round 4 of 4"]


def test_two_runs_keep_their_own_figures(tmp_path: Path) -> None:
    private = events_of(tmp_path / "a", name="private", rounds=1)
    open_run = events_of(tmp_path / "b", name="open", rounds=1, private=False)
    text = shown([*private, *open_run], terminal=False)
    assert "private: round 1 of 1: 3 of 3 clients, accuracy 52.9 %, epsilon 0.90" in text
    assert "open: round 1 of 1: 3 of 3 clients, accuracy 59.9 %" in text
    assert "epsilon" not in text.splitlines()[1]


def test_time_left_is_the_mean_of_the_newest_rounds_times_the_rounds_that_remain() -> None:
    progress = RunProgress("demo")
    progress.update({"kind": "run_started", "rounds": 10, "data": {}})
    assert progress.seconds_left is None
    for number, seconds in enumerate([100.0, 2.0, 2.0, 2.0, 4.0, 5.0], start=1):
        progress.update({"kind": "round_finished", "round": number, "seconds": seconds, "epsilon_max": None,
                         "evaluation": None})  # fmt: skip
    assert progress.seconds_left == pytest.approx(3.0 * 4)


def test_closing_table_shows_dp_beside_no_dp_and_what_epsilon_means(tmp_path: Path) -> None:
    summaries = [
        json.loads(write_summary(write_run(tmp_path / name, name=name, private=name == "dp"), 10.0).read_text())
        for name in ("dp", "no_dp")
    ]
    stream = io.StringIO()
    Console(file=stream, width=140).print(closing_table(summaries))
    text = stream.getvalue()
    assert "73.9 %" in text
    assert "80.9 %" in text
    assert "1.800 at delta 1e-05" in text
    assert "no DP" in text
    flat = " ".join(text.split())
    assert "Unit of privacy: one window of 2 s of wrist movement." in flat
    assert SIMULATED_NOISE in flat
    assert model_sentence(["imu_bank", "imu_cnn"]) in flat
