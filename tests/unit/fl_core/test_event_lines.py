"""What is no event is named with its line, whoever reads the log; a line that a crash tore is none yet."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fl_core.errors import RunFolderError
from fl_core.runlog import RunLog, check_reaches, is_finished, read_events
from fl_server.watch.state import state_of
from fl_server.watch.tail import EventTail
from support.synthetic_run import write_run

LINES = {
    "[1, 2]": "line 5: expected an event, got",
    "null": "line 5: expected an event, got None",
    "7": "line 5: expected an event, got 7",
    '{"seq": 5, "round": 1}': "line 5: expected an event with kind",
    '{"seq": NaN, "round": 1, "kind": "x"}': "line 5 is damaged",
    '{"seq": 9, "round": 1, "kind": "x"}': "line 5: expected event 5, got event 9",
    '{"seq": 5, "round": "one", "kind": "x"}': "line 5: x.round: expected a whole number, got 'one'",
    '{"seq": 5, "round": 1, "kind": "round_started"}': "line 5: expected an event with cohort",
    "[" * 100_000: "line 5 is damaged",
    "1" * 6000: "line 5 is damaged",
    "\ufeff{}": "line 5 is damaged",
    "": "line 5 is damaged",
}
FIELDS: dict[str, Any] = {"clients": 5, "rounds": "x", "privacy": "x", "initial": 7, "data": [1], "time": "now"}


def read(folder: Path) -> object:
    return state_of(read_events(folder))


def follow(folder: Path) -> object:
    return EventTail(folder).poll()


def go_on(folder: Path) -> object:
    return RunLog(folder, "demo")


READERS: list[Callable[[Path], object]] = [read, follow, go_on]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("line", LINES, ids=lambda line: line[:40] or "empty")
def test_a_line_that_is_no_event_is_named(tmp_path, line, reader):
    path = write_run(tmp_path) / "events.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("".join(f"{each}\n" for each in [*lines[:4], line, *lines[5:]]), encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(RunFolderError) as refused:
        reader(tmp_path)
    assert f"{path}: {LINES[line]}" in str(refused.value)
    assert len(str(refused.value)) < len(str(path)) + 200
    assert path.read_bytes() == before
    assert not is_finished(tmp_path)


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_of_a_wrong_kind_is_named(tmp_path, field):
    path = write_run(tmp_path) / "events.jsonl"
    first, *others = path.read_text().splitlines()
    first = json.dumps({**json.loads(first), field: FIELDS[field]})
    path.write_text("".join(f"{each}\n" for each in [first, *others]))
    with pytest.raises(RunFolderError, match=rf"line 1: run_started\.{field}: expected .*, got"):
        read(tmp_path)


def test_a_log_that_lost_a_line_or_has_one_twice_is_refused(tmp_path):
    path = write_run(tmp_path) / "events.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    for changed in ([*lines[:3], *lines[4:]], [*lines[:4], *lines[3:]], lines[1:]):
        path.write_text("".join(changed))
        with pytest.raises(RunFolderError, match=r"expected event \d+, got event \d+"):
            read(tmp_path)


def test_a_log_that_ends_before_a_checkpoint_is_refused_and_a_torn_line_is_not(tmp_path):
    path = write_run(tmp_path) / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5]) + lines[5][:9])
    check_reaches(tmp_path, 5)
    with pytest.raises(RunFolderError, match="expected events 1 to 6, as its checkpoint says, got events 1 to 5"):
        check_reaches(tmp_path, 6)
    path.unlink()
    with pytest.raises(RunFolderError, match="got none"):
        check_reaches(tmp_path, 6)
