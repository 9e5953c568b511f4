"""A layer of which much is cut off is named with what helps; what nobody looked at says nothing."""

from __future__ import annotations

from typing import Any

import pytest

from fl_server.watch.clipped import found_in_activations, newest_clipped
from fl_server.watch.state import RunState, state_of


def state(privacy: object, *rounds: dict[str, float] | None, ranges: str = "fixed") -> RunState:
    start = {"kind": "run_started", "round": 0, "privacy": privacy, "clients": [], "ranges": ranges}
    events: list[dict[str, Any]] = [start]
    for number, clipped in enumerate(rounds, start=1):
        events += [
            {"kind": "round_started", "round": number, "cohort": []},
            {"kind": "round_finished", "round": number, "seconds": 1.0, "epsilon_max": None, "evaluation": None}
            | ({} if clipped is None else {"clipped": clipped}),
        ]
    return state_of(events)


def test_the_newest_look_counts_and_older_runs_have_none() -> None:
    assert newest_clipped(state(None, {"1": 0.5}, None, {"1": 0.0}, None)) == {"1": 0.0}
    assert newest_clipped(state(None, None)) == {}


@pytest.mark.parametrize(("privacy", "ranges"), [(None, "public or ema or learned,"), ({}, "dp_histogram or learned,")])
def test_a_hidden_layer_of_which_much_is_cut_off_is_named_with_what_helps(privacy: object, ranges: str) -> None:
    (finding,) = found_in_activations(state(privacy, {"input": 0.9, "conv": 0.32, "last": 0.1}))
    assert finding.topic == "activation range"
    assert finding.text.startswith("layer conv: 32 % of its values lie beyond its range")
    assert ranges in finding.text


def test_nobody_is_told_to_take_the_ranges_that_the_run_has() -> None:
    (finding,) = found_in_activations(state(None, {"conv": 0.32}, ranges="ema"))
    assert "quant.ranges=public or learned," in finding.text
