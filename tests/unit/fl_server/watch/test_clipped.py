"""A layer of which much is cut off is named with what helps; what nobody looked at says nothing."""

from __future__ import annotations

from typing import Any

import pytest

from fl_server.watch.clipped import found_in_activations, newest_clipped
from fl_server.watch.state import RunState, state_of


def state(privacy: object, *rounds: dict[str, float] | None) -> RunState:
    events: list[dict[str, Any]] = [{"kind": "run_started", "round": 0, "privacy": privacy, "clients": []}]
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


@pytest.mark.parametrize(("privacy", "ranges"), [(None, "public, ema or learned"), ({}, "dp_histogram or learned")])
def test_a_hidden_layer_of_which_much_is_cut_off_is_named_with_what_helps(privacy: object, ranges: str) -> None:
    (finding,) = found_in_activations(state(privacy, {"input": 0.9, "conv": 0.12, "last": 0.01}))
    assert finding.topic == "activation range"
    assert finding.text.startswith("layer conv: 12 % of its values lie beyond its range")
    assert ranges in finding.text
