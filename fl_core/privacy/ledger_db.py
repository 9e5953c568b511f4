"""The file under the ledger: an append-only, hash-chained table in SQLite.

What is committed here survives the process being killed at any moment (write-ahead log, ``synchronous=FULL``).
Entries can be added, never changed or removed: triggers refuse it, and each data set's entries form a chain of
hashes that ``verify`` follows, as every opening does. A damaged file is an error, never a silent new start.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sqlite3
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fl_core.errors import LedgerError
from fl_core.files import sync_folder
from fl_core.privacy.accountant import ORDERS, RdpVector, rdp_of
from fl_core.privacy.events import PrivacyEvent
from fl_core.storage import naming

EntryKind = Literal["enrol", "reserve", "settle"]

_BUSY_TIMEOUT_S = 60.0
_REFUSED = {
    "database or disk is full": errno.ENOSPC,
    "disk I/O error": errno.EIO,
    "attempt to write a readonly database": errno.EACCES,
    "unable to open database file": errno.EACCES,
}
"""What SQLite says where the operating system refuses, and the number of such an error."""
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    dataset_id TEXT NOT NULL,
    position INTEGER NOT NULL,      -- 0, 1, 2 ... within the data set
    kind TEXT NOT NULL CHECK (kind IN ('enrol', 'reserve', 'settle')),
    task_id TEXT NOT NULL,
    body TEXT NOT NULL,             -- canonical JSON
    rdp BLOB NOT NULL,              -- cumulative Renyi divergence after this entry, little-endian float64 per order
    hash TEXT NOT NULL,             -- SHA-256 over the hash before it and the columns above
    UNIQUE (dataset_id, position)
);
CREATE INDEX entries_by_task ON entries (dataset_id, task_id, position);
CREATE TRIGGER entries_never_change BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'entries are append-only'); END;
CREATE TRIGGER entries_never_go BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'entries are append-only'); END;
CREATE TRIGGER meta_never_changes BEFORE UPDATE ON meta BEGIN SELECT RAISE(ABORT, 'meta is fixed'); END;
CREATE TRIGGER meta_never_goes BEFORE DELETE ON meta BEGIN SELECT RAISE(ABORT, 'meta is fixed'); END;
CREATE TABLE replies (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    dataset_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    reply BLOB NOT NULL,
    sha256 TEXT NOT NULL,
    UNIQUE (dataset_id, task_id)
);
CREATE TABLE states (
    dataset_id TEXT NOT NULL,
    slot TEXT NOT NULL CHECK (slot IN ('current', 'next')),
    task_id TEXT NOT NULL,
    state BLOB NOT NULL,
    PRIMARY KEY (dataset_id, slot)
);
"""


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


class LedgerDb:
    """An open ledger file; several threads and processes may hold one at the same time.

    Raises:
        LedgerError: the file is damaged, was written with other orders, or is (not) a simulation's against
            ``simulated``.
    """

    def __init__(self, path: Path, *, simulated: bool) -> None:
        self.path = path
        self._lock = threading.RLock()
        with self._named_errors():
            if not path.exists():
                _create(path, simulated)
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
            except BaseException:
                self._db.close()
                raise

    def close(self) -> None:
        """Let go of the file; an open ledger may simply be killed, too."""
        self._db.close()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
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
        """All or nothing, on disk when the block is left; other writers wait."""
        with self._lock, self._named_errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def query(self, sql: str, *values: object) -> list[Any]:
        """Rows that the reading statement ``sql`` finds."""
        with self._lock, self._named_errors():
            return self._db.execute(sql, values).fetchall()

    def entries(self, dataset_id: str) -> list[Entry]:
        """All entries of a data set, in order."""
        rows = self.query("SELECT * FROM entries WHERE dataset_id = ? ORDER BY position", dataset_id)
        return [_entry(row) for row in rows]

    def head(self, dataset_id: str) -> Entry | None:
        """The last entry of a data set."""
        rows = self.query("SELECT * FROM entries WHERE dataset_id = ? ORDER BY position DESC LIMIT 1", dataset_id)
        return _entry(rows[0]) if rows else None

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
        self, dataset_id: str, kind: EntryKind, task_id: str, body: dict[str, Any], events: Sequence[PrivacyEvent] = ()
    ) -> Entry:
        """Add an entry that spends ``events``; only inside ``transaction``."""
        head = self.head(dataset_id)
        cumulative = (head.rdp if head else np.zeros(len(ORDERS))) + rdp_of(events)
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
        with self._lock, self._named_errors():
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


def _create(path: Path, simulated: bool) -> None:
    """Make the file complete under another name first: a kill leaves either no ledger or a whole one."""
    # The log is looked for first: a file that another process makes meanwhile is there before its log.
    if path.with_name(path.name + "-wal").exists() and not path.exists():
        raise LedgerError(f"ledger {path} is gone but its write-ahead log is there: restore it, do not start anew")
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    meta = {"ledger_id": uuid.uuid4().hex, "orders": json.dumps(ORDERS), "simulated": json.dumps(simulated)}
    try:
        with closing(sqlite3.connect(staged, isolation_level=None)) as db:
            db.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
            db.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            # Last: closing a file in this mode copies its log into it, and says nothing where the disk is full.
            db.execute("PRAGMA journal_mode=WAL")  # stays with the file: changing it later needs it for itself
        try:
            os.link(staged, path)  # unlike a rename, fails when another process was faster
        except FileExistsError:
            return
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            staged.with_name(staged.name + suffix).unlink(missing_ok=True)
    sync_folder(path.parent)
