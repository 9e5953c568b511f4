"""What is found in a run before it starts that its user should know, and that stops nothing.

Each finder is one function that looks at everything that was built and says what it found. The server writes the
findings into the event that opens a run; ``fl-sim validate`` prints them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fl_core.config import Config
from fl_core.data.federation import Federation
from fl_core.findings import Finding
from fl_core.spec import TrainingSpec
from fl_core.tasks.base import Task
from fl_server.plan.found_in_attack import find_attack
from fl_server.plan.found_in_robust import find_unstated_liars
from strategies.base import Strategy


@dataclass(frozen=True)
class Inspected:
    """All that is known of a run before its first round."""

    config: Config
    federation: Federation
    """In a simulation with every client's examples; on a server with what it holds itself."""
    spec: TrainingSpec
    task: Task
    strategy: Strategy


Finder = Callable[[Inspected], Iterable[Finding]]

FINDERS: tuple[Finder, ...] = (
    find_attack,
    find_unstated_liars,
)
"""Every finder, in the order in which their findings are shown."""


def findings_before(inspected: Inspected) -> tuple[Finding, ...]:
    """What all finders say of a run that has not started."""
    return tuple(finding for find in FINDERS for finding in find(inspected))
