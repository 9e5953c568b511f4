"""What the report says of single clients and classes: sizes, liars, and which class is taken for which."""

from __future__ import annotations

from pathlib import Path

import toy

from fl_core.runlog import read_events
from fl_server.report.classes import confusion
from fl_server.report.per_client import client_sizes, sizes_words
from fl_server.watch.state import state_of
from simulation.run import run
from support.learning_run import run_with

LABELS = {"data": {"labels": ["rest", "walk"], "metric": "accuracy"}}


def test_the_commonest_mistakes_are_named_first():
    found = confusion(run_with([0.8], start=LABELS, last={"confusion": [[40, 10], [2, 48]]}))
    assert found is not None
    assert [(row.label, row.examples, row.recall) for row in found.rows] == [("rest", 50, 0.8), ("walk", 50, 0.96)]
    assert found.mixed_up == ("rest as walk (10 of 50)", "walk as rest (2 of 50)")
    assert not found.pooled


def test_a_class_without_examples_has_no_recall_and_is_no_error():
    found = confusion(run_with([0.8], start=LABELS, last={"confusion": [[40, 0], [0, 0]]}))
    assert found is not None
    assert found.rows[1].recall is None
    assert found.mixed_up == ()


def test_a_simulation_tells_sizes_and_classes_of_the_last_round_and_counts_each_example_once(tmp_path: Path):
    state = state_of(read_events(run(toy.config(tmp_path, run={"rounds": 2}))))
    assert {size.examples for size in client_sizes(state)} == {48}
    assert sizes_words(client_sizes(state)) == "48 each, 192 together."
    found = confusion(state)
    assert found is not None
    right = sum(row.counts[row.at] for row in found.rows)
    total = sum(row.examples for row in found.rows)
    assert (total, found.pooled) == (90, False)
    assert right / total == state.accuracy
    assert [bool((each.evaluation or {}).get("confusion")) for each in state.finished_rounds()] == [False, True]


def test_without_a_test_set_the_clients_held_out_examples_are_counted_together(tmp_path: Path):
    folder = run(toy.config(tmp_path, run={"rounds": 1}, data={"args": {"test": 0}}))
    events = list(read_events(folder))
    found = confusion(state_of(events))
    assert found is not None
    assert found.pooled
    told = [event for event in events if event.get("confusion")]
    assert {(event["kind"], event["visibility"]) for event in told} == {("client_evaluated", "simulation")}
    assert sum(row.examples for row in found.rows) == sum(event["examples"] for event in told)
    assert "pooled, by the int8" in (folder / "report.html").read_text()


def test_on_boards_nobody_knows_how_much_a_client_trains_on():
    assert sizes_words(client_sizes(state_of([]))) == ""
