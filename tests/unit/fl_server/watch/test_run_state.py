"""The reducer of events: what comes late belongs to its round, and what is run again counts once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fl_core.runlog import Event, read_events
from fl_server.report.series import last_evaluation
from fl_server.watch.accuracy import best_accuracy
from fl_server.watch.live import RunProgress
from fl_server.watch.state import RunState, state_of
from fl_server.watch.words import NOT_PRIVATE
from support.synthetic_run import accuracy_after, evaluation, fleet_log, round_of, write_run


def finished(number: int, **fields: Any) -> Event:
    told = {"uplink_bytes": 1, "downlink_bytes": 1, "seconds": 1.0, "epsilon_max": None, "evaluation": None}
    return {"kind": "round_finished", "round": number, **told, **fields}


def published(number: int, record: dict[str, Any] | None) -> Event:
    return {"kind": "round_published", "round": number, "seconds": 1.0, "evaluation": record}


@pytest.mark.parametrize(
    ("record", "best"),
    [
        ({"accuracy_float": 0.9, "accuracy_fake_quant": 0.8, "accuracy_int8": 0.7}, 0.7),
        ({"accuracy_float": 0.9, "accuracy_fake_quant": 0.8, "accuracy_int8": None}, 0.8),
        ({"accuracy_float": 0.9, "accuracy_int8": 0.0}, 0.0),
        ({"accuracy_float": 0.9}, 0.9),
        ({}, None),
        (None, None),
    ],
)
def test_a_model_is_known_by_what_is_nearest_to_a_device(record: dict[str, Any] | None, best: float | None) -> None:
    assert best_accuracy(record) == best


def test_a_rounds_evaluation_is_that_of_publishing_once_it_is_there() -> None:
    state = state_of([finished(1, evaluation=evaluation(0.5, None, {"left": 0.4}))])
    assert state.accuracy == pytest.approx(0.498)
    assert last_evaluation(state).get("accuracy_int8") is None
    state.update(published(1, evaluation(0.5, 0.49, {"left": 0.3})))
    assert state.accuracy == 0.49
    assert last_evaluation(state)["groups"] == {"left": 0.3}


def test_publishing_that_measured_nothing_leaves_the_rounds_own_evaluation() -> None:
    state = state_of([finished(1, evaluation=evaluation(0.5, None)), published(1, None)])
    assert state.accuracy == pytest.approx(0.498)


def test_what_is_published_late_does_not_go_before_a_newer_round() -> None:
    events = [finished(1, evaluation=evaluation(0.5, None)), finished(2, evaluation=evaluation(0.7, None))]
    state = state_of([*events, published(1, evaluation(0.5, 0.49))])
    assert state.accuracy == pytest.approx(0.698)
    assert last_evaluation(state)["accuracy_int8"] == 0.49
    assert [number for number, _ in state.evaluations()] == [1, 2]


def test_a_round_that_is_run_again_counts_once(tmp_path: Path) -> None:
    events = list(read_events(write_run(tmp_path, rounds=4, mishaps=True)))
    straight = state_of(events)
    again = next(number for number, event in enumerate(events) if event["round"] == 2)
    stopped = next(number for number, event in enumerate(events) if event["round"] == 3)
    resumed: Event = {"kind": "run_resumed", "run": "demo", "round": 1, "rounds_done": 1}
    state = state_of([*events[:stopped], resumed, *events[again:]])
    assert (state.resumed, state.rounds_done, state.current) == (1, 4, 4)
    assert (state.updates, state.bytes_up, state.accuracy) == (straight.updates, straight.bytes_up, straight.accuracy)
    assert (state.mishaps, state.left_out, state.artifacts) == (
        straight.mishaps, straight.left_out, straight.artifacts,
    )  # fmt: skip
    assert {name: client.updates for name, client in state.clients.items()} == {
        name: client.updates for name, client in straight.clients.items()
    }


def test_after_a_resumption_the_accuracy_is_that_of_the_checkpoint(tmp_path: Path) -> None:
    state = state_of(read_events(write_run(tmp_path, rounds=3, finished=False)))
    state.update({"kind": "run_resumed", "run": "demo", "round": 1, "rounds_done": 1})
    assert state.accuracy == pytest.approx(accuracy_after(1) - 0.001)
    assert state.current is None


def test_a_device_with_named_seeds_that_came_late_takes_the_promise_from_the_live_line_too() -> None:
    terms = {"unit": "example", "named_seeds": []}
    progress = RunProgress("demo")
    progress.update({"kind": "run_started", "round": 0, "rounds": 2, "clients": ["a"], "privacy": terms, "data": {}})
    progress.update({"kind": "round_started", "round": 1, "cohort": ["a", "late"]})
    for name, epsilon in {"a": 0.5, "late": None}.items():
        progress.update({"kind": "client_finished", "round": 1, "client_id": name, "epsilon": epsilon})
    progress.update(finished(1, epsilon_max=0.5))
    assert NOT_PRIVATE in progress.line()
    assert progress.state.epsilon_max is None


def test_an_epsilon_counts_as_soon_as_it_is_spent(tmp_path: Path) -> None:
    log = fleet_log(tmp_path)
    round_of(log, 1, 0.5)
    log.append("round_started", 2, cohort=["a", "b"])
    log.append("client_finished", 2, client_id="a", uplink_bytes=100, local_steps=1, epsilon=0.8)
    log.close()
    assert state_of(read_events(tmp_path)).epsilon_max == 0.8


def test_a_state_without_events_is_empty() -> None:
    assert state_of([]) == RunState()
