"""The privacy ledger: what each data set has spent, reserved before the first batch and never given back.

A reservation is on disk before training looks at an example, and counts in full whether or not the task is ever
finished. So a process that is killed at any moment leaves a ledger that may count too much, never too little. The
ledger also keeps what must be one with the spending: the reply, so that a task delivered twice resends its result
instead of training for free, and the client's next state, which becomes current only once its update is accepted.
One file holds any number of data sets: a board keeps its own, a simulation one for all of its clients.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fl_core.errors import BudgetSpentError, LedgerError, PolicyError, PrivacyError
from fl_core.privacy.accountant import ACCOUNTANTS, ORDERS, RdpVector, check_accountant, epsilon, rdp_of
from fl_core.privacy.events import PrivacyEvent, event_of
from fl_core.privacy.ledger_db import Entry, LedgerDb
from fl_core.privacy.policy import DevicePolicy
from fl_core.types import DpTerms

REPLIES_KEPT = 4
"""Replies kept per data set: they can be large, and only the last task is ever delivered again."""


@dataclass(frozen=True)
class BudgetRequest:
    """What one task wants to spend. ``events`` is one round of training under ``terms`` unless it is given, as for
    ranges that are measured under privacy."""

    dataset_id: str
    task_id: str
    terms: DpTerms
    policy: DevicePolicy
    events: tuple[PrivacyEvent, ...] | None = None


@dataclass(frozen=True)
class Reservation:
    """Budget that is set aside for a task. ``epsilon`` is the data set's total with it, at the task's delta."""

    dataset_id: str
    task_id: str
    entry: int
    epsilon: float
    reused: bool
    """An earlier reservation of the same simulated task serves again: its seed gives the very same noise."""


@dataclass(frozen=True)
class Reservations:
    """The answer to several requests, by data set."""

    granted: dict[str, Reservation]
    refused: dict[str, PrivacyError]


class Ledger:
    """An open ledger file.

    ``simulated`` is fixed when the file is made: with noise from a named seed, a task that is run again repeats itself
    and reuses its reservation; on a board every run of a task is charged.

    Raises:
        LedgerError: from every method, when the file is damaged, cannot be written or contradicts itself.
    """

    def __init__(self, path: Path, *, simulated: bool = False) -> None:
        self.simulated = simulated
        self._db = LedgerDb(Path(path), simulated=simulated)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def enrol(self, dataset_id: str, size_class: int) -> int:
        """Make a data set known; gives its size class, which the first enrolment fixed for ever."""
        with self._db.transaction():
            head = self._db.head(dataset_id)
            if head is None:
                self._db.append(dataset_id, "enrol", "", {"size_class": size_class, "time_s": time.time()})
        return size_class if head is None else int(self._db.entries(dataset_id)[0].body["size_class"])

    def reserve(
        self,
        dataset_id: str,
        task_id: str,
        terms: DpTerms,
        policy: DevicePolicy,
        events: tuple[PrivacyEvent, ...] | None = None,
    ) -> Reservation:
        """Set budget aside for one task; it is on disk before the caller goes on.

        Raises:
            PolicyError: the terms protect less than the policy.
            BudgetSpentError: the data set's total would pass the smaller of the policy's and the terms' epsilon.
            LedgerError: the data set was never enrolled.
        """
        answer = self.reserve_many([BudgetRequest(dataset_id, task_id, terms, policy, events)])
        if dataset_id in answer.refused:
            raise answer.refused[dataset_id]
        return answer.granted[dataset_id]

    def reserve_many(self, requests: Sequence[BudgetRequest]) -> Reservations:
        """Reserve for several data sets in one commit; a refusal concerns its own data set alone.

        Raises:
            LedgerError: two requests name one data set, or a data set was never enrolled; nothing is reserved then.
        """
        if len({request.dataset_id for request in requests}) != len(requests):
            raise LedgerError("reserve_many: expected at most one request per data set")
        answer = Reservations({}, {})
        with self._db.transaction():
            for request in requests:
                try:
                    answer.granted[request.dataset_id] = self._reserve(request)
                except (PolicyError, BudgetSpentError) as refusal:
                    answer.refused[request.dataset_id] = refusal
        return answer

    def _reserve(self, request: BudgetRequest) -> Reservation:
        dataset_id, task_id, terms, policy = request.dataset_id, request.task_id, request.terms, request.policy
        policy.check(terms)
        events = (event_of(terms),) if request.events is None else request.events
        if not events:
            raise LedgerError(f"data set {dataset_id!r}: task {task_id!r} reserves nothing; use store() for its reply")
        head = self._enrolled(dataset_id)
        if self.simulated and (earlier := self._db.last_of_task(dataset_id, task_id, "reserve")):
            if earlier.events != events:
                raise LedgerError(
                    f"data set {dataset_id!r}: task {task_id!r} reserved {earlier.events}, and now asks for {events}"
                )
            return Reservation(dataset_id, task_id, earlier.seq, self._epsilon(head, terms, ()), reused=True)
        total, cap = self._epsilon(head, terms, events), min(policy.epsilon_cap, terms.epsilon)
        if not total <= cap:
            raise BudgetSpentError(
                f"data set {dataset_id!r}: task {task_id!r} would bring its epsilon from "
                f"{self._epsilon(head, terms, ()):.4f} to {total:.4f} at delta {terms.delta:g}, over its cap of {cap:g}"
            )
        body = {"accountant": terms.accountant, "cap": cap, "delta": terms.delta, "time_s": time.time()}
        entry = self._db.append(dataset_id, "reserve", task_id, body, events)
        return Reservation(dataset_id, task_id, entry.seq, total, reused=False)

    def _epsilon(self, head: Entry, terms: DpTerms, events: tuple[PrivacyEvent, ...]) -> float:
        if terms.accountant == "rdp":  # the sum is stored: no need to read the history
            return epsilon(head.rdp + rdp_of(events), terms.delta)
        return ACCOUNTANTS[terms.accountant]((*self.events(head.dataset_id), *events), terms.delta)

    def _enrolled(self, dataset_id: str) -> Entry:
        head = self._db.head(dataset_id)
        if head is None:
            raise LedgerError(f"data set {dataset_id!r} is not enrolled in ledger {self._db.path}")
        return head

    def settle(self, dataset_id: str, task_id: str, reply: bytes, next_state: bytes | None) -> None:
        """Close a task's reservation and keep its reply and the state that follows from it, all in one commit.

        Raises:
            LedgerError: the task has no open reservation.
        """
        with self._db.transaction() as db:
            last = self._db.last_of_task(dataset_id, task_id)
            if last is None or last.kind == "enrol" or (last.kind == "settle" and not self.simulated):
                found = "is settled already" if last and last.kind == "settle" else "was never reserved"
                raise LedgerError(f"data set {dataset_id!r}: task {task_id!r} {found}, it cannot be settled")
            if last.kind == "reserve":
                digest = hashlib.sha256(reply).hexdigest()
                body = {"reservation": last.seq, "reply_sha256": digest, "time_s": time.time()}
                self._db.append(dataset_id, "settle", task_id, body)
            _keep_result(db, dataset_id, task_id, reply, next_state)

    def store(self, dataset_id: str, task_id: str, reply: bytes, next_state: bytes | None) -> None:
        """Keep reply and next state of a task that spends no privacy (a run without DP)."""
        with self._db.transaction() as db:
            self._enrolled(dataset_id)
            if self._db.last_of_task(dataset_id, task_id) is not None:
                raise LedgerError(f"data set {dataset_id!r}: task {task_id!r} holds a reservation, settle it instead")
            _keep_result(db, dataset_id, task_id, reply, next_state)

    def reply(self, dataset_id: str, task_id: str) -> bytes | None:
        """The stored reply of a task, or None when it was never settled or is long past."""
        rows = self._db.query(
            "SELECT reply, sha256 FROM replies WHERE dataset_id = ? AND task_id = ?", dataset_id, task_id
        )
        if not rows:
            return None
        if hashlib.sha256(rows[0][0]).hexdigest() != rows[0][1]:
            raise LedgerError(f"data set {dataset_id!r}: the stored reply of task {task_id!r} is damaged")
        return bytes(rows[0][0])

    def promote(self, dataset_id: str, accepted_task_id: str | None) -> None:
        """Make the state that follows from the accepted task current, and drop every other; spending stays.

        None, for a server that accepted nothing yet, drops all: it knows nothing of this client. Look for a stored
        reply first: a plan that is delivered again must not drop its own state.
        """
        with self._db.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO states SELECT dataset_id, 'current', task_id, state FROM states"
                " WHERE dataset_id = ? AND slot = 'next' AND task_id = ?",
                (dataset_id, accepted_task_id),
            )
            db.execute(
                "DELETE FROM states WHERE dataset_id = ? AND (slot = 'next' OR task_id IS NOT ?)",
                (dataset_id, accepted_task_id),
            )

    def state(self, dataset_id: str) -> bytes | None:
        """The current client state: that of the last update known to be accepted."""
        rows = self._db.query("SELECT state FROM states WHERE dataset_id = ? AND slot = 'current'", dataset_id)
        return bytes(rows[0][0]) if rows else None

    def spent(self, dataset_id: str, delta: float, accountant: str = "rdp") -> float:
        """Epsilon of everything a data set has reserved, settled or not; 0 for one that is not enrolled."""
        check_accountant(accountant)
        return ACCOUNTANTS[accountant](self.events(dataset_id), delta)

    def rdp(self, dataset_id: str) -> RdpVector:
        """Cumulative Renyi divergence, float64 [len(ORDERS)], settled or not."""
        head = self._db.head(dataset_id)
        return np.zeros(len(ORDERS)) if head is None else head.rdp

    def events(self, dataset_id: str) -> list[PrivacyEvent]:
        """Everything a data set has reserved, in order."""
        return [event for entry in self._db.entries(dataset_id) for event in entry.events]

    def history(self, dataset_id: str) -> list[Entry]:
        """All entries of a data set, in order."""
        return self._db.entries(dataset_id)

    def verify(self) -> None:
        """Check the whole file, as opening it does.

        Raises:
            LedgerError: names the entry at which the chain breaks.
        """
        self._db.verify()


def _keep_result(db: sqlite3.Connection, dataset_id: str, task_id: str, reply: bytes, state: bytes | None) -> None:
    """Store reply and next state, and prune old replies; only inside a transaction."""
    digest = hashlib.sha256(reply).hexdigest()
    db.execute(
        "INSERT OR REPLACE INTO replies (dataset_id, task_id, reply, sha256) VALUES (?, ?, ?, ?)",
        (dataset_id, task_id, reply, digest),
    )
    db.execute(
        "DELETE FROM replies WHERE dataset_id = ? AND seq NOT IN"
        " (SELECT seq FROM replies WHERE dataset_id = ? ORDER BY seq DESC LIMIT ?)",
        (dataset_id, dataset_id, REPLIES_KEPT),
    )
    # Without a next state of its own a task leaves none waiting: an older one belongs to a task that is over.
    db.execute("DELETE FROM states WHERE dataset_id = ? AND slot = 'next'", (dataset_id,))
    if state is not None:
        db.execute("INSERT INTO states VALUES (?, 'next', ?, ?)", (dataset_id, task_id, state))
