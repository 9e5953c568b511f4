"""From a run's state to accuracy over time, which is what asynchronous and synchronous rounds are compared by.

Time is the virtual clock's where the run has one, else that of the wall. It starts with the first round, so that how
long devices took to be there does not count; a pause before a resumption does.
"""

from __future__ import annotations

from collections.abc import Mapping

from fl_server.report import series
from fl_server.watch.state import RunState


def is_virtual(state: RunState) -> bool:
    """Whether the run has a virtual clock."""
    return any(each.virtual_s is not None for each in state.rounds.values())


def elapsed_s(state: RunState) -> Mapping[int, float]:
    """Seconds from the start of the first round to the end of each, by round; round 0 is the untrained model.

    Rounds that took no virtual time before any did are left out.
    """
    rounds = sorted(state.rounds.values(), key=lambda each: each.number)
    if is_virtual(state):
        ends_s = {each.number: each.virtual_s for each in rounds if each.virtual_s is not None}
        return {0: 0.0, **ends_s}
    started_at = next((each.started_at for each in rounds if each.started_at is not None), None)
    if started_at is None:
        return {0: 0.0}
    return {0: 0.0, **{e.number: e.finished_at - started_at for e in rounds if e.finished_at is not None}}


def accuracy_over_time(state: RunState) -> tuple[series.Line, ...]:
    """The accuracies of ``series.accuracy_lines``, each at the seconds at which its round ended."""
    at_s = elapsed_s(state)
    return tuple(
        series.Line(line.name, tuple((at_s.get(int(round), 0.0), accuracy) for round, accuracy in line.points))
        for line in series.accuracy_lines(state)
    )
