"""Whose data a run knows little of, rounds that taught it nothing, and artefacts that it left behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from fl_core.runlog import Event
from fl_server.watch.findings import findings
from fl_server.watch.participation import idle_rounds, never_accepted, often_left_out
from fl_server.watch.state import RunState, state_of
from fl_server.watch.vetoed import older_artifacts


def run_of(rounds: list[Mapping[str, str | None]], clients: str = "abcd", extra: list[Event] | None = None) -> RunState:
    """A run in each of whose rounds these clients were asked: summed where the reason is None, else they failed."""
    events: list[Event] = [{"kind": "run_started", "round": 0, "clients": list(clients)}]
    for number, answers in enumerate(rounds, start=1):
        base: dict[str, Any] = {"round": number}
        events.append(base | {"kind": "round_started", "cohort": list(answers)})
        for client, reason in answers.items():
            came = {"kind": "client_finished", "epsilon": None} if reason is None else {"kind": "client_failed"}
            events.append(base | came | {"client_id": client, "reason": reason})
        events += [event for event in extra or [] if event["round"] == number]
        events.append(base | {"kind": "round_finished", "seconds": 1.0, "epsilon_max": None, "evaluation": None})
    return state_of(events)


def artifact(kind: str, round: int, weight_bits: int = 8) -> Event:
    published = {"path": "p", "bytes": 1, "bytes_float": 2, "parity": {}}
    return {"kind": kind, "round": round, "format": "onnx", "weight_bits": weight_bits, "reason": f"no {round}",
            **published}  # fmt: skip


def test_only_who_never_succeeded_is_found_with_the_last_reason() -> None:
    early = {"a": "early", "b": "early", "c": "always"}
    state = run_of([early, {**early, "a": "late"}, {"b": None}])
    assert [(found.topic, found.text) for found in never_accepted(state)] == [
        ("clients left out", "1 of 4 clients never had an update accepted: a: failed: late"),
        ("clients left out", "1 of 4 clients never had an update accepted: c: failed: always"),
    ]


@pytest.mark.parametrize(
    ("good", "bad", "found"), [(3, 3, True), (1, 7, True), (4, 3, False), (2, 2, False), (0, 5, False)]
)
def test_who_is_left_out_of_half_of_its_rounds_is_found_once_it_is_no_accident(
    good: int, bad: int, found: bool
) -> None:
    state = run_of([{"a": None, "b": None}] * good + [{"a": None, "b": "late"}] * bad)
    texts = [each.text for each in often_left_out(state)]
    assert texts == ["1 of 4 clients were left out of at least half of their rounds: b: failed: late"] * found


def test_rounds_in_which_nobody_was_accepted_are_counted() -> None:
    (finding,) = idle_rounds(run_of([{"a": None}, {"a": "no"}, {"a": "no"}, {"a": None}]))
    assert finding.text.startswith("2 of 4 rounds had no update accepted, the last of them round 3:")
    assert list(idle_rounds(run_of([{"a": None}, {"a": None}]))) == []
    assert list(idle_rounds(run_of([{"a": "no"}, {"a": "no"}]))) == []  # that ends a run with an error of its own


def test_an_artefact_that_is_older_than_the_model_is_told_with_its_round() -> None:
    events = [artifact("artifact_published", 1), artifact("artifact_vetoed", 2), artifact("artifact_vetoed", 3)]
    (finding,) = older_artifacts(run_of([{"a": None}] * 3, extra=events))
    assert (
        finding.text
        == "onnx: the newest good one is of round 1; 2 since then did not pass, the last that of round 3: no 3"
    )
    (never,) = older_artifacts(run_of([{"a": None}] * 2, extra=[artifact("artifact_vetoed", 2, weight_bits=4)]))
    assert never.text.startswith("onnx, 4-bit weights: there is no good one")


def test_a_good_run_hears_nothing_of_all_this() -> None:
    events = [artifact("artifact_vetoed", 1), artifact("artifact_published", 2)]
    state = run_of([{"a": None, "b": "once"}, {"a": None, "b": None}], clients="ab", extra=events)
    assert findings(state) == []
