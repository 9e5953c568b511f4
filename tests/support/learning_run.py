"""Runs of which only the learning curve matters: a state with these accuracies, one a round, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fl_core.runlog import Event
from fl_server.watch.state import RunState, state_of


def run_with(
    accuracies: Sequence[float], *, examples: int = 1000, start: Mapping[str, Any] | None = None, finished: bool = True,
    personal: float | None = None, last: Mapping[str, Any] | None = None,
) -> RunState:  # fmt: skip
    """A run of one client. ``start`` goes into its first event, ``last`` into the evaluation of its last round."""
    data = {"labels": [str(digit) for digit in range(10)], "metric": "accuracy"}
    events: list[Event] = [
        {"kind": "run_started", "round": 0, "run": "made-up", "clients": ["a"], "rounds": len(accuracies),
         "data": data, "privacy": None, "initial": None, "weight_bits": 8, **(start or {})}
    ]  # fmt: skip
    for number, accuracy in enumerate(accuracies, start=1):
        record = {"examples": examples, "accuracy_float": accuracy, "accuracy_fake_quant": accuracy}
        record |= {"accuracy_int8": None, "groups": {}} | (dict(last or {}) if number == len(accuracies) else {})
        events += [
            {"kind": "round_started", "round": number, "cohort": ["a"]},
            {"kind": "client_finished", "round": number, "client_id": "a", "epsilon": None},
            {"kind": "client_trained", "round": number, "client_id": "a", "examples": 40, "personal_score": personal},
            {"kind": "round_finished", "round": number, "seconds": 1.0, "epsilon_max": None, "evaluation": record},
        ]
    if finished:
        events.append({"kind": "run_finished", "round": len(accuracies), "rounds_done": len(accuracies), "seconds": 1})
    return state_of(events)
