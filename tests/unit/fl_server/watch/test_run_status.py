"""The status of a run is what its events say, while they are written and through truncations of the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fl_core.runlog import RunLog
from fl_server.watch.status import RunStatus, RunTail, status_of
from fl_server.watch.tail import EventTail
from support.synthetic_run import fleet_log, round_of, write_run


@pytest.fixture
def log(tmp_path: Path) -> Iterator[RunLog]:
    log = fleet_log(tmp_path)
    yield log
    log.close()


def test_a_status_names_who_was_left_out_and_why(tmp_path, log):
    round_of(log, 1, 0.5)
    round_of(log, 2, 0.8)
    status = status_of(tmp_path)
    assert (status.rounds, status.rounds_done, status.epsilon_max, status.uplink_bytes) == (5, 2, 0.8, 200)
    assert status.left_out == {"client_rejected": 2}
    assert [(case["client_id"], case["reason"]) for case in status.reasons] == [("b", "not finite")] * 2
    assert (status.clients["a"].updates, status.clients["a"].last_round, status.clients["b"].updates) == (2, 2, 0)


def test_rounds_that_a_resumed_run_cuts_off_are_forgotten(tmp_path, log):
    round_of(log, 1, 0.5)
    kept = log.seq
    watch = RunTail(tmp_path)
    round_of(log, 2, 0.8)
    assert watch.poll().rounds_done == 2
    log.truncate(kept)
    log.append("run_resumed", 1, rounds_done=1)
    status = RunStatus.of(watch.poll())
    assert (status.rounds_done, status.uplink_bytes, status.resumed, status.epsilon_max) == (1, 100, 1, 0.5)
    assert status == status_of(tmp_path)


def test_a_file_that_grew_again_after_a_cut_is_read_anew(tmp_path, log):
    kept = log.seq
    round_of(log, 1, 0.5)
    tail = EventTail(tmp_path)
    held, events = tail.poll()
    assert (held, len(events)) == (True, 5)
    log.truncate(kept)
    log.append("run_resumed", 0, rounds_done=0)
    for number in (1, 2):
        round_of(log, number, 0.25)  # longer than before
    held, events = tail.poll()
    assert not held
    assert [event["seq"] for event in events] == list(range(1, log.seq + 1))
    assert tail.poll() == (True, [])


def test_a_torn_line_is_not_read_before_it_is_whole(tmp_path, log):
    tail = EventTail(tmp_path)
    tail.poll()
    line = json.dumps({"seq": 2, "round": 1, "kind": "x"}).encode() + b"\n"
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(line[:7])
        file.flush()
        assert tail.poll() == (True, [])
        file.write(line[7:])
    assert [event["seq"] for event in tail.poll()[1]] == [2]


def test_a_whole_synthetic_run_is_done(tmp_path):
    status = status_of(write_run(tmp_path))
    assert status.finished
    assert status.rounds_done == status.rounds


def test_a_status_without_events_is_empty(tmp_path):
    assert status_of(tmp_path) == RunStatus()
