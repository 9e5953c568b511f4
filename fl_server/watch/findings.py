"""What a person should know of a run, from its events alone: what was found before it began, and what it shows since.

Each finder is one function of a run's state. Live view, closing table, summary and report ask ``findings`` and word
nothing themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fl_core.findings import Finding
from fl_server.watch.clipped import found_in_activations
from fl_server.watch.earlier_runs import find_earlier_spending
from fl_server.watch.learning import find_how_it_learns
from fl_server.watch.participation import idle_rounds, never_accepted, often_left_out
from fl_server.watch.rounding import find_rounded_only
from fl_server.watch.state import RunState
from fl_server.watch.vetoed import older_artifacts

RUN_FINDERS: tuple[Callable[[RunState], Iterable[Finding]], ...] = (
    never_accepted,
    often_left_out,
    idle_rounds,
    older_artifacts,
    find_earlier_spending,
    find_how_it_learns,
    found_in_activations,
    find_rounded_only,
)
"""Every finder of what a run shows, in the order in which their findings are shown."""


def findings_of_start(state: RunState) -> list[Finding]:
    """What was found before the run began; empty for a run of a version that looked for nothing."""
    return [Finding.of(plain) for plain in state.start.get("findings", ())]


def findings(state: RunState) -> list[Finding]:
    """Everything that is known of the run by now."""
    return [*findings_of_start(state), *(finding for find in RUN_FINDERS for finding in find(state))]
