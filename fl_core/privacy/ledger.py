"""The privacy ledger: what each data set has spent, reserved before the first batch and never given back.

A reservation is on disk before training looks at an example, and counts in full whether or not the task is ever
finished: a process that is killed leaves a ledger that may count too much, never too little. It also keeps what must
be one with the spending: the reply, so that a task delivered twice resends its result instead of training for free,
and the client's next state, which becomes current only once its update is accepted. One file holds any number of data
sets: a board keeps its own, a simulation one for all of its clients.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fl_core.errors import BudgetSpentError, LedgerError, PolicyError, PrivacyError
from fl_core.privacy.accountant import ORDERS, RdpVector
from fl_core.privacy.budget import BudgetRequest, events_of, spent, spent_in_run, total_within_caps
from fl_core.privacy.events import PrivacyEvent, event_of
from fl_core.privacy.ledger_db import Entry, LedgerDb
from fl_core.privacy.ledger_head import HeadFile, KeptHeads, LedgerHead, check_covers, head_of, unknown_answer
from fl_core.privacy.policy import DevicePolicy
from fl_core.types import DpTerms


@dataclass(frozen=True)
class Reservation:
    """Budget that is set aside for a task."""

    dataset_id: str
    task_id: str
    entry: int
    epsilon: float
    """The data set's total over all runs with it, at the task's delta."""
    reused: bool
    """An earlier reservation of the same simulated task serves again: its seed gives the very same noise."""
    new_run: bool
    """The reservation before it, if any, was of another run; not told in a simulation, whose ledger holds one run."""


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

    def __init__(self, path: Path, *, simulated: bool = False, heads: HeadFile | None = None) -> None:
        """With ``heads`` the file must be the one that they tell of, and each reservation moves them on."""
        self.simulated = simulated
        if heads is not None and not path.exists():
            heads.check_gone(path)
        self._db = LedgerDb(Path(path), simulated=simulated)
        self._heads = None if heads is None else KeptHeads(self._db, heads)
        try:
            self._check_file()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def enrol(self, dataset_id: str, size_class: int) -> int:
        """Make a data set known; gives its size class, which the first enrolment fixed for ever.

        One that is known is only looked up: whoever says who it is writes nothing.
        """
        known = self._db.entry_at(dataset_id, 0)
        if known is None:
            with self._db.transaction():
                known = self._db.entry_at(dataset_id, 0)  # another process may have been quicker
                if known is None:
                    body = {"size_class": size_class, "time_s": time.time()}
                    known = self._db.append(dataset_id, "enrol", "", body)
        return int(known.body["size_class"])

    def reserve(
        self,
        dataset_id: str,
        task_id: str,
        terms: DpTerms,
        policy: DevicePolicy,
        events: tuple[PrivacyEvent, ...] | None = None,
        run: str = "",
    ) -> Reservation:
        """Set budget aside for one task; it is on disk before the caller goes on.

        Raises:
            PolicyError: the terms protect less than the policy.
            BudgetSpentError: the data set's total would pass the policy's epsilon, or what ``run`` alone spends that of
                the terms.
            LedgerError: the data set was never enrolled, or the file is not the one that it was or should be.
        """
        answer = self.reserve_many([BudgetRequest(dataset_id, task_id, terms, policy, events, run)])
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
            self._check_file()
            for request in requests:
                try:
                    answer.granted[request.dataset_id] = self._reserve(request)
                except (PolicyError, BudgetSpentError) as refusal:
                    answer.refused[request.dataset_id] = refusal
        for dataset_id in answer.granted:
            self.keep_head(dataset_id)
        return answer

    def _check_file(self) -> None:
        self._db.check_in_place()
        if self._heads is not None:
            self._heads.check()

    def head(self, dataset_id: str) -> LedgerHead | None:
        """How far the data set has come by now; None for one that is not enrolled."""
        return head_of(self._db, dataset_id)

    def keep_head(self, dataset_id: str) -> None:
        """Move the head on that is kept apart, where one is; the chain may be ahead of it after a kill."""
        if self._heads is not None:
            self._heads.keep(dataset_id)

    def check_covers(self, dataset_id: str, head: LedgerHead, way_on: str) -> None:
        """Refuse a ledger that does not hold all that a head of it tells of.

        Raises:
            LedgerError: it is older, or another one; the message ends with ``way_on``.
        """
        check_covers(self._db, dataset_id, head, way_on)

    def check_accepted(self, dataset_id: str, task_id: str, run: str) -> None:
        """Refuse to go on where a server holds the answer to a task that this ledger never saw.

        Where heads are kept, that is remembered: no later task is begun before the owner has seen to it.

        Raises:
            LedgerError: it never saw it, so it is not the newest one.
        """
        if self.knows(dataset_id, task_id) is None:
            if self._heads is not None:
                self._heads.mark(dataset_id, task_id, run)
            raise unknown_answer(self._db.path, dataset_id, task_id)

    def _reserve(self, request: BudgetRequest) -> Reservation:
        dataset_id, task_id, terms, policy = request.dataset_id, request.task_id, request.terms, request.policy
        policy.check(terms)
        events = (event_of(terms),) if request.events is None else request.events
        if not events:
            raise LedgerError(f"data set {dataset_id!r}: task {task_id!r} reserves nothing; use store() for its reply")
        self._enrolled(dataset_id)
        if self.simulated and (earlier := self._db.last_of_task(dataset_id, task_id, "reserve")):
            if earlier.events != events:
                raise LedgerError(
                    f"data set {dataset_id!r}: task {task_id!r} reserved {earlier.events}, and now asks for {events}"
                )
            total = spent(self._db, dataset_id, terms.delta, terms.accountant)
            return Reservation(dataset_id, task_id, earlier.seq, total, reused=True, new_run=False)
        total = total_within_caps(self._db, request, events)
        last = None if self.simulated else self._db.last_of_kind(dataset_id, "reserve")
        new_run = not self.simulated and (last is None or last.run != request.run)
        body = {
            "accountant": terms.accountant, "cap": policy.epsilon_cap, "delta": terms.delta, "epsilon": total,
            "run": request.run, "run_cap": terms.epsilon, "time_s": time.time(),
        }  # fmt: skip
        entry = self._db.append(dataset_id, "reserve", task_id, body, events)
        return Reservation(dataset_id, task_id, entry.seq, total, reused=False, new_run=new_run)

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
        with self._db.transaction():
            last = self._db.last_of_task(dataset_id, task_id)
            if last is None or last.kind == "enrol" or (last.kind == "settle" and not self.simulated):
                found = "is settled already" if last and last.kind == "settle" else "was never reserved"
                raise LedgerError(f"data set {dataset_id!r}: task {task_id!r} {found}, it cannot be settled")
            if last.kind == "reserve":
                digest = hashlib.sha256(reply).hexdigest()
                body = {"reservation": last.seq, "reply_sha256": digest, "time_s": time.time()}
                self._db.append(dataset_id, "settle", task_id, body)
            self._db.keep_result(dataset_id, task_id, reply, next_state)

    def store(self, dataset_id: str, task_id: str, reply: bytes, next_state: bytes | None) -> None:
        """Keep reply and next state of a task that spends no privacy (a run without DP)."""
        with self._db.transaction():
            self._enrolled(dataset_id)
            if self._db.last_of_task(dataset_id, task_id) is not None:
                raise LedgerError(f"data set {dataset_id!r}: task {task_id!r} holds a reservation, settle it instead")
            self._db.keep_result(dataset_id, task_id, reply, next_state)

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
        return spent(self._db, dataset_id, delta, accountant)

    def spent_in_run(self, dataset_id: str, run: str, delta: float, accountant: str = "rdp") -> float:
        """Epsilon of what a data set has reserved for one run alone."""
        return spent_in_run(self._db, dataset_id, run, delta, accountant)

    def rdp(self, dataset_id: str) -> RdpVector:
        """Cumulative Renyi divergence, float64 [len(ORDERS)], settled or not."""
        head = self._db.head(dataset_id)
        return np.zeros(len(ORDERS)) if head is None else head.rdp

    def events(self, dataset_id: str) -> list[PrivacyEvent]:
        """Everything a data set has reserved, in order."""
        return events_of(self._db.entries(dataset_id))

    def history(self, dataset_id: str) -> list[Entry]:
        """All entries of a data set, in order."""
        return self._db.entries(dataset_id)

    def knows(self, dataset_id: str, task_id: str) -> Entry | None:
        """The reservation of a task; None where it has none here."""
        return self._db.last_of_task(dataset_id, task_id, "reserve")

    def newest_reservations(self) -> list[Entry]:
        """The newest reservation of every data set that has one."""
        return self._db.newest("reserve")

    def verify(self) -> None:
        """Check the whole file, as opening it does.

        Raises:
            LedgerError: names the entry at which the chain breaks.
        """
        self._db.check_in_place()
        self._db.verify()
