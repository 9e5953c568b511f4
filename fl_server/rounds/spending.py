"""What clients have spent whose updates were not summed: a task counts once a ledger has set its budget aside.

A board's ledger is its owner's, so a server knows of it what replies tell. A simulation has the one ledger of all
clients, which is the truth.
"""

from __future__ import annotations

import math
from typing import Protocol

from fl_core.types import RoundPlan


class ClientLedgers(Protocol):
    """The ledgers of all clients, as only a simulator may see them."""

    def spent(self, plan: RoundPlan) -> float | None:
        """What the client's data has spent with this task; None where nothing was set aside for it."""
        ...

    def most(self) -> float | None:
        """The most that any client's data has spent by now; None where nothing was.

        Raises:
            LedgerError: they are gone or cannot be read.
        """
        ...


def spent_unsummed(
    plan: RoundPlan, claim: float | None, before: float | None, ledgers: ClientLedgers | None
) -> float | None:
    """What a client has spent by a task that is over and whose update was not summed; None where nobody can know.

    Args:
        plan: the task.
        claim: what a reply says that was not fit to be summed; None where there is none or it says nothing.
        before: what the client told with its last update that was summed.
        ledgers: the truth, where it can be looked up.

    A client may claim anything. More than the run's own cap on top of ``before`` no ledger would have granted to this
    run, so no more counts; and no claim below zero.
    """
    if plan.dp is None:
        return None
    if ledgers is not None:
        return ledgers.spent(plan)
    if claim is None or not claim >= 0.0:
        return None
    return min(claim, (before or 0.0) + plan.dp.epsilon)


def told_by(epsilon: float | None) -> float:
    """What a good private reply tells that it has spent: infinite where a board with named seeds tells nothing."""
    return math.inf if epsilon is None else epsilon


def largest(*epsilons: float | None) -> float | None:
    """The largest that there is; None where there is none."""
    return max((epsilon for epsilon in epsilons if epsilon is not None), default=None)
