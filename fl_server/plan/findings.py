"""What is found in a run before it starts that its user should know, and that stops nothing.

Each finder is one function that looks at everything that was built and says what it found. The server writes the
findings into the event that opens a run; ``fl-sim validate`` prints them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fl_core.findings import Finding
from fl_server.plan.found_in_attack import find_attack
from fl_server.plan.found_in_classes import classes_without_examples
from fl_server.plan.found_in_data import found_in_data
from fl_server.plan.found_in_model import idle_normalisation
from fl_server.plan.found_in_robust import find_unstated_liars
from fl_server.plan.inspected import Inspected

Finder = Callable[[Inspected], Iterable[Finding]]

FINDERS: tuple[Finder, ...] = (
    find_attack,
    find_unstated_liars,
    found_in_data,
    classes_without_examples,
    idle_normalisation,
)
"""Every finder, in the order in which their findings are shown."""


def findings_before(inspected: Inspected) -> tuple[Finding, ...]:
    """What all finders say of a run that has not started."""
    return tuple(finding for find in FINDERS for finding in find(inspected))
