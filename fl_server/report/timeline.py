"""From the events of a run to accuracy over time, which is what asynchronous and synchronous rounds are compared by.

Time is the virtual clock's where the run has one, else that of the wall. It starts with the first round, so that how
long devices took to be there does not count; a pause before a resumption does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fl_core.runlog import Event
from fl_server.report import series


def is_virtual(events: Sequence[Event]) -> bool:
    """Whether the run has a virtual clock."""
    return bool(series.of_kind(events, "round_timed"))


def elapsed_s(events: Sequence[Event]) -> Mapping[int, float]:
    """Seconds from the start of the first round to the end of each, by round; round 0 is the untrained model.

    Rounds that took no virtual time before any did are left out.
    """
    if is_virtual(events):
        ends_s = {int(event["round"]): float(event["virtual_s"]) for event in series.of_kind(events, "round_timed")}
        return {0: 0.0, **ends_s}
    started = series.of_kind(events, "round_started")
    if not started:
        return {0: 0.0}
    ends_s = {int(e["round"]): e["time"] - started[0]["time"] for e in series.of_kind(events, "round_finished")}
    return {0: 0.0, **ends_s}


def accuracy_over_time(events: Sequence[Event]) -> tuple[series.Line, ...]:
    """The accuracies of ``series.accuracy_lines``, each at the seconds at which its round ended."""
    at_s = elapsed_s(events)
    return tuple(
        series.Line(line.name, tuple((at_s.get(int(round), 0.0), accuracy) for round, accuracy in line.points))
        for line in series.accuracy_lines(events)
    )
