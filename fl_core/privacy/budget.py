"""What a data set has spent, in all and in one run, and the two caps that a reservation must keep.

``DpTerms.epsilon`` caps one run and is a server's; ``DevicePolicy.epsilon_cap`` caps the data for ever and is its
owner's. What other runs have spent counts for the second alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fl_core.errors import BudgetSpentError
from fl_core.privacy.accountant import ACCOUNTANTS, ORDERS, check_accountant, epsilon, rdp_of
from fl_core.privacy.events import PrivacyEvent
from fl_core.privacy.ledger_db import Entry, LedgerDb
from fl_core.privacy.policy import DevicePolicy
from fl_core.types import DpTerms


@dataclass(frozen=True)
class BudgetRequest:
    """What one task wants to spend. ``events`` is one round of training under ``terms`` unless it is given, as for
    ranges that are measured under privacy."""

    dataset_id: str
    task_id: str
    terms: DpTerms
    policy: DevicePolicy
    events: tuple[PrivacyEvent, ...] | None = None
    run: str = ""
    """Whose cap ``terms.epsilon`` is."""


def events_of(entries: Sequence[Entry]) -> list[PrivacyEvent]:
    """Everything that entries have reserved, in order."""
    return [event for entry in entries for event in entry.events]


def spent(db: LedgerDb, dataset_id: str, delta: float, accountant: str, events: Sequence[PrivacyEvent] = ()) -> float:
    """Epsilon of everything a data set has reserved, settled or not, and of ``events`` on top of it.

    Where a lost ledger was begun again, its history is known as a sum of Renyi divergences alone, and every
    accountant goes by that.
    """
    check_accountant(accountant)
    if accountant != "rdp":  # Renyi divergences are stored as a sum: no need to read the history
        history = db.entries(dataset_id)
        if not any(entry.carried for entry in history):
            return ACCOUNTANTS[accountant]((*events_of(history), *events), delta)
    head = db.head(dataset_id)
    return epsilon((np.zeros(len(ORDERS)) if head is None else head.rdp) + rdp_of(events), delta)


def spent_in_run(
    db: LedgerDb, dataset_id: str, run: str, delta: float, accountant: str, events: Sequence[PrivacyEvent] = ()
) -> float:
    """Epsilon of what a data set has reserved for one run, and of ``events`` on top of it.

    Everything, for a run in which the ledger was lost and begun again: what it had spent is not known apart.
    """
    history = [entry for entry in db.entries(dataset_id) if entry.run == run]
    if any(entry.carried for entry in history):
        return spent(db, dataset_id, delta, accountant, events)
    return ACCOUNTANTS[accountant]((*events_of(history), *events), delta)


def total_within_caps(db: LedgerDb, request: BudgetRequest, events: Sequence[PrivacyEvent]) -> float:
    """The data set's epsilon over all runs with ``events``, at the delta of the request.

    Raises:
        BudgetSpentError: it would pass the policy's cap, or what the run alone spends that of its terms.
    """
    dataset_id, terms, policy = request.dataset_id, request.terms, request.policy
    total = spent(db, dataset_id, terms.delta, terms.accountant, events)
    who = f"data set {dataset_id!r}: task {request.task_id!r} would bring its epsilon"
    if not total <= policy.epsilon_cap:
        before = spent(db, dataset_id, terms.delta, terms.accountant)
        raise BudgetSpentError(
            f"{who} over all runs from {before:.4f} to {total:.4f} at delta {terms.delta:g}, over its cap of "
            f"{policy.epsilon_cap:g} (epsilon_cap of the device's policy)"
        )
    if total <= terms.epsilon:  # what the run spends alone is a part of it: no need to look for it
        return total
    of_run = spent_in_run(db, dataset_id, request.run, terms.delta, terms.accountant, events)
    if not of_run <= terms.epsilon:
        before = spent_in_run(db, dataset_id, request.run, terms.delta, terms.accountant)
        raise BudgetSpentError(
            f"{who} in this run from {before:.4f} to {of_run:.4f} at delta {terms.delta:g}, over its cap of "
            f"{terms.epsilon:g} (privacy.epsilon of the run)"
        )
    return total
