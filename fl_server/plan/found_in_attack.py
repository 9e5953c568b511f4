"""Clients of a simulation that lie: who they are, what the events say of them, and what everybody reads before a run.

No figure of an attacked run means what it would mean without the attack, so nothing shows one without saying so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fl_core.config.schema import AttackSection
from fl_core.findings import Finding

if TYPE_CHECKING:
    from fl_server.plan.inspected import Inspected

MOST_NAMED = 5
"""Liars that a finding names; the events name all."""


def liars(section: AttackSection, client_ids: Iterable[str]) -> tuple[str, ...]:
    """Who of these clients lies: the first of them in the order of their client_ids."""
    return tuple(sorted(client_ids)[: section.clients])


def describe_attack(section: AttackSection | None, client_ids: Iterable[str]) -> dict[str, Any] | None:
    """The attack as an event holds it; None where all are honest, as on boards, where nobody is told to lie."""
    if section is None:
        return None
    return {"name": section.name, "clients": list(liars(section, client_ids)), "args": dict(section.args)}


def find_attack(inspected: Inspected) -> Iterable[Finding]:
    """That clients lie: how many, how, and who."""
    section, known = inspected.config.simulation.attack, inspected.federation.clients
    if section is not None:
        hostile = liars(section, known)
        more = f" and {len(hostile) - MOST_NAMED} more" if len(hostile) > MOST_NAMED else ""
        verb = "lies" if len(hostile) == 1 else "lie"
        yield Finding(
            "attack",
            f"{len(hostile)} of {len(known)} clients {verb} ({section.name}): {', '.join(hostile[:MOST_NAMED])}{more}; "
            "simulation.attack asks for it, and every figure is that of an attacked run",
        )
