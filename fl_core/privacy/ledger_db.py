"""The file under the ledger: an append-only, hash-chained table in SQLite.

What is committed here survives the process being killed at any moment (write-ahead log, ``synchronous=FULL``).
Entries can be added, never changed or removed: triggers refuse it, and each data set's entries form a chain of
hashes that ``verify`` follows, as every opening does. A damaged file is an error, never a silent new start.
"""

from __future__ import annotations

import errno
import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fl_core.errors import LedgerError
from fl_core.privacy.accountant import ORDERS, RdpVector, rdp_of
from fl_core.privacy.events import PrivacyEvent
from fl_core.privacy.ledger_file import OpenedFile, create_ledger
from fl_core.storage import naming

EntryKind = Literal["enrol", "reserve", "settle"]

REPLIES_KEPT = 4
"""Replies kept per data set: they can be large, and only the last task is ever delivered again."""
_BUSY_TIMEOUT_S = 60.0
_REFUSED = {
    "database or disk is full": errno.ENOSPC,
    "disk I/O error": errno.EIO,
    "attempt to write a readonly database": errno.EACCES,
    "unable to open database file": errno.EACCES,
}
"""What SQLite says where the operating system refuses, and the number of such an error."""


@dataclass(frozen=True)
class Entry:
    """One line of the ledger. ``rdp`` is the data set's cumulative vector after it, float64 [len(ORDERS)]."""

    seq: int
    dataset_id: str
    position: int
    kind: EntryKind
    task_id: str
    body: dict[str, Any]
    rdp: RdpVector
    hash: str

    @property
    def events(self) -> tuple[PrivacyEvent, ...]:
        """What a reservation spends; nothing for any other kind."""
        return tuple(PrivacyEvent(*event) for event in self.body.get("events", ()))

    @property
    def run(self) -> str:
        """The run that a reservation was for; "" where nobody said it."""
        return str(self.body.get("run", ""))

    @property
    def carried(self) -> bool:
        """Whether it stands for what a lost ledger had spent: as a sum, for its events are lost."""
        return bool(self.body.get("carried", False))


class LedgerDb:
    """An open ledger file; several threads and processes may hold one at the same time.

    Raises:
        LedgerError: the file is damaged, was written with other orders, or is (not) a simulation's against
            ``simulated``.
    """

    def __init__(self, path: Path, *, simulated: bool) -> None:
        self.path = path
        self._lock = threading.RLock()
        with self.named_errors():
            if not path.exists():
                create_ledger(path, simulated)
            elif path.stat().st_size == 0:
                raise LedgerError(f"ledger {path} is empty: expected a database; restore it, spent privacy is in it")
            self._db = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
            try:
                mode = self._db.execute("PRAGMA journal_mode").fetchone()[0]
                if mode != "wal":
                    raise LedgerError(f"ledger {path}: expected journal mode wal, got {mode}")
                self._db.execute("PRAGMA synchronous=FULL")
                self._meta = dict(self._db.execute("SELECT key, value FROM meta"))
                self._check_meta(simulated)
                self.verify()
                self._file = OpenedFile(path)
            except BaseException:
                self._db.close()
                raise

    def close(self) -> None:
        """Let go of the file; an open ledger may simply be killed, too."""
        self._db.close()

    @contextmanager
    def named_errors(self) -> Iterator[None]:
        """What SQLite and the operating system say of the file, as errors that name it."""
        try:
            with naming(self.path):
                yield
        except (sqlite3.Error, ValueError) as error:  # damaged text cannot be decoded: a ValueError
            number = _REFUSED.get(str(error))
            if number is not None:  # the disk, and not what stands in the file
                raise OSError(number, str(error), str(self.path)) from error
            raise LedgerError(f"ledger {self.path}: {error}") from error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, on disk when the block is left; other writers wait.

        Raises:
            LedgerError: the file is not the one that was opened, see ``check_in_place``.
        """
        self.check_in_place()
        with self._lock, self.named_errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def check_in_place(self) -> None:
        """Refuse to write where the file that is open is no longer the one at its path: nobody would find it again.

        Raises:
            LedgerError: the file was removed, replaced or cut while it is in use.
        """
        with self._lock, self.named_errors():
            self._file.check()

    def query(self, sql: str, *values: object) -> list[Any]:
        """Rows that the reading statement ``sql`` finds."""
        with self._lock, self.named_errors():
            return self._db.execute(sql, values).fetchall()

    def entries(self, dataset_id: str) -> list[Entry]:
        """All entries of a data set, in order."""
        rows = self.query("SELECT * FROM entries WHERE dataset_id = ? ORDER BY position", dataset_id)
        return [_entry(row) for row in rows]

    def head(self, dataset_id: str) -> Entry | None:
        """The last entry of a data set."""
        rows = self.query("SELECT * FROM entries WHERE dataset_id = ? ORDER BY position DESC LIMIT 1", dataset_id)
        return _entry(rows[0]) if rows else None

    def entry_at(self, dataset_id: str, position: int) -> Entry | None:
        """The entry of a data set at a place in its chain."""
        rows = self.query("SELECT * FROM entries WHERE dataset_id = ? AND position = ?", dataset_id, position)
        return _entry(rows[0]) if rows else None

    def last_of_kind(self, dataset_id: str, kind: EntryKind) -> Entry | None:
        """The last entry of a data set that is of this kind."""
        rows = self.query(
            "SELECT * FROM entries WHERE dataset_id = ? AND kind = ? ORDER BY position DESC LIMIT 1", dataset_id, kind
        )
        return _entry(rows[0]) if rows else None

    def newest(self, kind: EntryKind) -> list[Entry]:
        """The last entry of this kind of every data set that has one."""
        newest = "SELECT MAX(seq) FROM entries WHERE kind = ? GROUP BY dataset_id"
        return [_entry(row) for row in self.query(f"SELECT * FROM entries WHERE seq IN ({newest})", kind)]

    def last_of_task(self, dataset_id: str, task_id: str, kind: EntryKind | None = None) -> Entry | None:
        """The last entry of a task, of one kind if asked."""
        rows = self.query(
            "SELECT * FROM entries WHERE dataset_id = ? AND task_id = ? AND kind LIKE ? ORDER BY position DESC LIMIT 1",
            dataset_id,
            task_id,
            kind or "%",
        )
        return _entry(rows[0]) if rows else None

    def append(
        self,
        dataset_id: str,
        kind: EntryKind,
        task_id: str,
        body: dict[str, Any],
        events: Sequence[PrivacyEvent] = (),
        at_least: RdpVector | float = 0.0,
    ) -> Entry:
        """Add an entry that spends ``events``, and brings the sum to ``at_least``; only inside ``transaction``."""
        head = self.head(dataset_id)
        cumulative = np.maximum((head.rdp if head else np.zeros(len(ORDERS))) + rdp_of(events), at_least)
        if events:
            body = {**body, "events": [[e.sample_rate, e.noise_multiplier, e.steps] for e in events]}
        position = head.position + 1 if head else 0
        text, blob = json.dumps(body, sort_keys=True, separators=(",", ":")), cumulative.astype("<f8").tobytes()
        digest = self._hash(head.hash if head else None, dataset_id, position, kind, task_id, text, blob)
        cursor = self._db.execute(
            "INSERT INTO entries (dataset_id, position, kind, task_id, body, rdp, hash) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (dataset_id, position, kind, task_id, text, blob, digest),
        )
        return Entry(int(cursor.lastrowid or 0), dataset_id, position, kind, task_id, body, cumulative, digest)

    def keep_result(self, dataset_id: str, task_id: str, reply: bytes, next_state: bytes | None) -> None:
        """Store reply and next state of a task, and prune old replies; only inside ``transaction``."""
        digest = hashlib.sha256(reply).hexdigest()
        self._db.execute(
            "INSERT OR REPLACE INTO replies (dataset_id, task_id, reply, sha256) VALUES (?, ?, ?, ?)",
            (dataset_id, task_id, reply, digest),
        )
        self._db.execute(
            "DELETE FROM replies WHERE dataset_id = ? AND seq NOT IN"
            " (SELECT seq FROM replies WHERE dataset_id = ? ORDER BY seq DESC LIMIT ?)",
            (dataset_id, dataset_id, REPLIES_KEPT),
        )
        # Without a next state of its own a task leaves none waiting: an older one belongs to a task that is over.
        self._db.execute("DELETE FROM states WHERE dataset_id = ? AND slot = 'next'", (dataset_id,))
        if next_state is not None:
            self._db.execute("INSERT INTO states VALUES (?, 'next', ?, ?)", (dataset_id, task_id, next_state))

    def _hash(
        self, previous: str | None, dataset_id: str, position: int, kind: str, task_id: str, body: str, rdp: bytes
    ) -> str:
        fields = [previous or self._meta["ledger_id"], dataset_id, position, kind, task_id, body, rdp.hex()]
        return hashlib.sha256(json.dumps(fields).encode()).hexdigest()

    def verify(self) -> None:
        """Follow every chain from its start, and check that no entry charges less than its events cost.

        Raises:
            LedgerError: names the entry at which the chain breaks.
        """
        with self._lock, self.named_errors():
            self._db.execute("BEGIN")  # one snapshot for all that is compared: others go on writing meanwhile
            try:
                self._verify_snapshot()
            finally:
                if self._db.in_transaction:  # SQLite ends it by itself on a page that it cannot read
                    self._db.execute("ROLLBACK")

    def _verify_snapshot(self) -> None:
        problems = [row[0] for row in self._db.execute("PRAGMA quick_check") if row[0] != "ok"]
        if problems:
            raise LedgerError(f"ledger {self.path} is damaged: {problems[0]}")
        heads: dict[str, Entry] = {}
        last_seq = 0
        for row in self._db.execute("SELECT * FROM entries ORDER BY seq"):
            last_seq += 1
            if row[0] != last_seq:
                raise LedgerError(f"ledger {self.path}: entry {last_seq} is missing, the next one is {row[0]}")
            try:
                entry = _entry(row)
                self._check_link(heads.get(entry.dataset_id), entry, row)
            except (ValueError, TypeError) as unreadable:
                raise LedgerError(f"ledger {self.path}: entry {row[0]} cannot be read: {unreadable}") from None
            heads[entry.dataset_id] = entry
        # SQLite counts the entries that were ever added on a page of its own.
        row = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'entries'").fetchone()
        ever = row[0] if row else 0
        if ever != last_seq:
            raise LedgerError(f"ledger {self.path}: expected {ever} entries, got {last_seq}")

    def _check_link(self, head: Entry | None, entry: Entry, row: tuple[Any, ...]) -> None:
        name = f"ledger {self.path}: entry {entry.seq} ({entry.kind} {entry.task_id!r} of {entry.dataset_id!r})"
        if entry.position != (head.position + 1 if head else 0) or (entry.kind == "enrol") != (head is None):
            raise LedgerError(f"{name} does not follow the entry before it")
        if self._hash(head.hash if head else None, *row[1:7]) != entry.hash:
            raise LedgerError(f"{name} was changed: its hash does not match its content and the entry before it")
        cost = (head.rdp if head else 0.0) + rdp_of(entry.events)
        if not bool(np.all(entry.rdp >= cost * (1 - 1e-6))):  # room for another version of the analysis
            raise LedgerError(f"{name} charges less than its events cost")

    def _check_meta(self, simulated: bool) -> None:
        expected = {"orders": json.dumps(ORDERS), "simulated": json.dumps(simulated)}
        for key, value in expected.items():
            if self._meta.get(key) != value:
                raise LedgerError(f"ledger {self.path}: expected {key} = {value}, got {self._meta.get(key)}")


def _entry(row: tuple[Any, ...]) -> Entry:
    seq, dataset_id, position, kind, task_id, body, rdp, digest = row
    if not isinstance(rdp, bytes) or len(rdp) != 8 * len(ORDERS):
        raise ValueError(f"expected {8 * len(ORDERS)} bytes of Renyi divergences, got {rdp!r:.40}")
    vector = np.frombuffer(rdp, dtype="<f8").astype(np.float64)
    values = json.loads(body) if isinstance(body, str) else None
    if not isinstance(values, dict):
        raise ValueError(f"expected a JSON object, got {body!r:.40}")
    return Entry(seq, dataset_id, position, kind, task_id, values, vector, digest)
