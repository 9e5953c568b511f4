"""Why clients were left out: one line a reason, each reason once a run, a crowd by its first names."""

from __future__ import annotations

from typing import Any

from fl_core.runlog import Event
from fl_server.watch.left_out import HAPPENED, NewReasons, by_reason, lines_of
from fl_server.watch.records import Mishap
from fl_server.watch.state import CLIENT_MISHAPS


def left_out(who: str, reason: str, kind: str = "client_failed", round: int = 1) -> Event:
    return {"kind": kind, "round": round, "client_id": who, "reason": reason}


def told(events: list[Event]) -> list[str]:
    reasons = NewReasons()
    return [line for event in events for line in reasons.update(event)]


def round_of(number: int, events: list[Event], asked: int = 3) -> list[Event]:
    begun: dict[str, Any] = {"kind": "round_started", "round": number, "cohort": ["x"] * asked}
    return [begun, *({**event, "round": number} for event in events), {"kind": "round_finished", "round": number}]


def test_reasons_that_differ_in_the_clients_name_and_in_numbers_are_one() -> None:
    events = [left_out(f"room-{n}", f"update from client room-{n}: expected 3, got {n}.5e+2{n}") for n in (2, 0, 1)]
    (line,) = lines_of(by_reason(map(Mishap.of, events)).values(), 3)
    assert line == "3 of 3 clients failed: room-0, room-1, room-2: update from client room-2: expected 3, got 2.5e+22"


def test_a_name_that_is_part_of_another_word_is_none() -> None:
    events = [left_out("a", "a bad answer of a"), left_out("b", "b bad answer of b"), left_out("c", "a bad answer")]
    assert [group.clients for group in by_reason(map(Mishap.of, events)).values()] == [("a", "b"), ("c",)]


def test_the_reason_of_most_clients_comes_first_and_kinds_stay_apart() -> None:
    events = [left_out("a", "no"), left_out("b", "no", "client_refused"), left_out("c", "no", "client_refused")]
    lines = lines_of(by_reason(map(Mishap.of, events)).values(), 3)
    assert lines == ["2 of 3 clients refused: b, c: no", "1 of 3 clients failed: a: no"]


def test_a_crowd_and_many_reasons_are_cut_short() -> None:
    crowd = [left_out(f"{n:03}", "no") for n in range(100)]
    words = ["one", "two", "three", "four", "five", "six", "seven"]
    lines = lines_of(by_reason(map(Mishap.of, [*crowd, *(left_out(w, f"for {w * 2}") for w in words)])).values(), 107)
    assert lines[0] == "100 of 107 clients failed: 000, 001, 002, 003, 004 and 95 more: no"
    assert len(lines) == 6
    assert lines[-1] == "and 3 more reasons, which the report has"


def test_each_reason_is_told_in_the_first_round_that_has_it() -> None:
    first, second = left_out("a", "no"), left_out("b", "never")
    rounds = [[first], [first], [first, second], [left_out("c", "no")]]
    lines = told([event for number, events in enumerate(rounds, start=1) for event in round_of(number, events)])
    assert lines == ["round 1: 1 of 3 clients failed: a: no", "round 3: 1 of 3 clients failed: b: never"]


def test_every_way_to_be_left_out_has_words() -> None:
    assert HAPPENED.keys() == CLIENT_MISHAPS
