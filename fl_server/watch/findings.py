"""What a person should know of a run, from its events alone: what was found before it began, and what it shows since.

Each finder is one function of a run's state. Live view, closing table, summary and report ask ``findings`` and word
nothing themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fl_core.findings import Finding
from fl_server.watch.never_accepted import never_accepted
from fl_server.watch.state import RunState

RUN_FINDERS: tuple[Callable[[RunState], Iterable[Finding]], ...] = (never_accepted,)
"""Every finder of what a run shows, in the order in which their findings are shown."""


def findings_of_start(state: RunState) -> list[Finding]:
    """What was found before the run began; empty for a run of a version that looked for nothing."""
    return [Finding.of(plain) for plain in state.start.get("findings", ())]


def findings(state: RunState) -> list[Finding]:
    """Everything that is known of the run by now."""
    return [*findings_of_start(state), *(finding for find in RUN_FINDERS for finding in find(state))]
