"""A run's own cap is told before its first round, and what earlier runs have spent is never taken for this one's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fl_core.runlog import read_events
from fl_server.watch.earlier_runs import caps_in_words
from fl_server.watch.findings import findings
from fl_server.watch.state import RunState
from support.synthetic_run import write_run


def state_of(folder: Path, told: float = 0.0, **privacy: Any) -> RunState:
    """A made-up run whose clients tell ``told`` more than it shows, with these fields of privacy changed."""
    state = RunState()
    for event in read_events(write_run(folder, rounds=2)):
        if event["kind"] == "run_started":
            event["privacy"] |= privacy
        if event["kind"] == "client_finished":
            event["epsilon"] += told
        state.update(event)
    return state


def test_what_earlier_runs_have_spent_is_told_apart_from_this_run(tmp_path: Path) -> None:
    (finding,) = findings(state_of(tmp_path, told=8.0))
    assert finding.topic == "privacy"
    for said in ("over all runs", "this run spends at most 8", "person 1"):
        assert said in finding.text


def test_a_first_run_is_told_nothing_of_it(tmp_path: Path) -> None:
    assert findings(state_of(tmp_path)) == []


@pytest.mark.parametrize(("simulated", "told"), [(True, False), (False, True)])
def test_devices_are_told_of_both_caps_before_the_first_round(tmp_path: Path, simulated: bool, told: bool) -> None:
    words = caps_in_words(state_of(tmp_path, simulated=simulated))
    assert (words is not None) == told
    if words is not None:
        assert "this run spends epsilon up to 8" in words
