"""The head of a ledger, kept apart from it: how far a data set's chain had come, and what was spent by then.

A ledger that is removed, replaced or put back from a backup is whole in itself, so something outside it has to know
better. A head is written after the ledger's own commit and before anything is trained: a kill between the two leaves
a ledger that is ahead of its head, which is right, and never one that is behind. It holds the whole sum of what was
spent, so that a ledger that is lost can be begun again from there instead of from nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fl_core.errors import LedgerError
from fl_core.files import read_json, write_secret
from fl_core.privacy.accountant import ORDERS, RdpVector, epsilon
from fl_core.privacy.ledger_db import LedgerDb
from fl_core.privacy.ledger_file import PUT_BACK

BEGIN_AGAIN = "or begin it again with all that is known as spent: fl-client replace-ledger"
"""What the owner of a board may do where the newest ledger is lost."""


@dataclass(frozen=True, eq=False)
class LedgerHead:
    """Where the chain of a data set stood after its last reservation, or where there is none, after it was enrolled."""

    position: int
    """Place of that entry among those of its data set, from 0."""
    hash: str
    """What that entry ends with: no other history leads to it."""
    rdp: RdpVector
    """Cumulative Renyi divergence up to it, float64 [len(ORDERS)]."""
    epsilon: float
    """What that is at ``delta``, as the reservation told it."""
    delta: float | None
    """None where nothing was reserved."""
    run: str
    """What spent last."""
    size_class: int
    """What the data set was enrolled with."""
    unknown_task: str | None = None
    """A task whose answer some server holds and the ledger does not know: the ledger is older than the device."""

    def __str__(self) -> str:
        """What a message says that such a ledger must hold."""
        return f"at least {self.position + 1} entries and epsilon {self.epsilon:.2f} spent"

    def to_plain(self) -> dict[str, Any]:
        """As a file keeps it."""
        return {**asdict(self), "rdp": self.rdp.tolist()}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> LedgerHead:
        """What ``to_plain`` gave.

        Raises:
            ValueError, TypeError, KeyError: it is something else.
        """
        rdp = np.asarray(plain["rdp"], dtype=np.float64)
        if rdp.shape != (len(ORDERS),):
            raise ValueError(f"expected {len(ORDERS)} Renyi divergences, got {rdp.size}")
        return cls(**{**plain, "rdp": rdp})


class HeadFile:
    """The heads of a ledger's data sets, in a file that lies in another folder than the ledger."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def check_gone(self, ledger: Path) -> None:
        """Refuse to begin a ledger where none is and there should be one.

        Raises:
            LedgerError: names the first data set that it must hold.
        """
        for dataset_id, head in self.load().items():
            raise LedgerError(refusal(ledger, dataset_id, f"a file with {head}", "no file"))

    def load(self) -> dict[str, LedgerHead]:
        """The heads by data set; none where nothing was ever reserved.

        Raises:
            LedgerError: the file cannot be read.
        """
        try:
            found = read_json(self.path)
            if found == {}:
                raise ValueError("it is empty")
            return {dataset_id: LedgerHead.of(plain) for dataset_id, plain in (found or {}).items()}
        except (OSError, ValueError, TypeError, KeyError) as damaged:
            raise LedgerError(
                f"ledger head {self.path}: expected the heads that were written there, got a file that cannot be read "
                f"({damaged}); remove it only if the ledger itself is surely the newest one"
            ) from damaged

    def save(self, heads: Mapping[str, LedgerHead]) -> None:
        """Replace the file by these heads; a crash leaves the old ones or the new ones.

        Raises:
            OSError: it cannot be written.
        """
        write_secret(self.path, json.dumps({name: head.to_plain() for name, head in heads.items()}).encode())


class KeptHeads:
    """The heads in a file, beside the ledger that they are of."""

    def __init__(self, db: LedgerDb, file: HeadFile) -> None:
        self._db = db
        self._file = file

    def check(self) -> None:
        """Refuse a ledger that is not the newest one of its device.

        Raises:
            LedgerError: it holds less than a head tells of, has another history, or a server holds what it never saw.
        """
        for dataset_id, head in self._file.load().items():
            check_covers(self._db, dataset_id, head, BEGIN_AGAIN)
            if head.unknown_task is not None:
                raise unknown_answer(self._db.path, dataset_id, head.unknown_task)

    def keep(self, dataset_id: str) -> None:
        """Move the head on to the last reservation; none is kept of a data set that has reserved nothing."""
        head = head_of(self._db, dataset_id)
        if head is not None and head.position > 0:
            self._save(dataset_id, head)

    def mark(self, dataset_id: str, task_id: str, run: str) -> None:
        """Remember that a server holds the answer to a task which the ledger never saw, in that run."""
        head = head_of(self._db, dataset_id)
        if head is not None:
            self._save(dataset_id, replace(head, unknown_task=task_id, run=run))

    def _save(self, dataset_id: str, head: LedgerHead) -> None:
        with self._db.named_errors():
            self._file.save({**self._file.load(), dataset_id: head})


def head_of(db: LedgerDb, dataset_id: str) -> LedgerHead | None:
    """How far a data set has come in a ledger; None for one that is not enrolled there."""
    enrolled, last = db.entry_at(dataset_id, 0), db.last_of_kind(dataset_id, "reserve")
    if enrolled is None:
        return None
    entry, size_class = last or enrolled, int(enrolled.body["size_class"])
    delta = None if last is None else float(last.body["delta"])
    total = 0.0 if delta is None else float(entry.body.get("epsilon", epsilon(entry.rdp, delta)))
    return LedgerHead(entry.position, entry.hash, entry.rdp, total, delta, entry.run, size_class)


def check_covers(db: LedgerDb, dataset_id: str, head: LedgerHead, way_on: str) -> None:
    """Refuse a ledger that does not hold all that a head of it tells of.

    Raises:
        LedgerError: it is older, or another one; the message ends with ``way_on``.
    """
    found = db.entry_at(dataset_id, head.position)
    if found is not None and found.hash == head.hash:
        return
    last = db.head(dataset_id)
    came = f"{last.position + 1 if last else 0} entries" if found is None else "another history"
    raise LedgerError(refusal(db.path, dataset_id, str(head), came, way_on))


def refusal(ledger: Path, dataset_id: str, expected: str, came: str, way_on: str = BEGIN_AGAIN) -> str:
    """One line that says which ledger is not the newest one, and what to do."""
    return f"ledger {ledger}: data set {dataset_id!r}: expected {expected}, got {came}; {PUT_BACK}, {way_on}"


def unknown_answer(ledger: Path, dataset_id: str, task_id: str) -> LedgerError:
    """What to raise where a server holds the answer to a task that a ledger never saw."""
    return LedgerError(refusal(ledger, dataset_id, f"task {task_id}, whose answer a server holds", "none such"))
