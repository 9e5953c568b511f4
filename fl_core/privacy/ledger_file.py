"""A ledger file as the file system has it: made whole or not at all, and told from any other at its path."""

from __future__ import annotations

import json
import os
import sqlite3
import uuid
from contextlib import closing, suppress
from pathlib import Path

from fl_core.errors import LedgerError
from fl_core.files import sync_folder
from fl_core.privacy.accountant import ORDERS

PUT_BACK = "put the newest one back"
"""What is always right where a ledger is not the one that it should be."""
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


class OpenedFile:
    """The ledger file at a path as it was opened, told from any other that comes there; it never gets shorter."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened = path.stat()
        self._bytes = self._opened.st_size

    def check(self) -> None:
        """Return where it is still there.

        Raises:
            LedgerError: it was removed, replaced or cut.
        """
        came = "no file"
        with suppress(FileNotFoundError, NotADirectoryError):
            found = self._path.stat()
            if not os.path.samestat(found, self._opened):
                came = "another one"
            elif found.st_size < self._bytes:
                came = f"{found.st_size} bytes of {self._bytes}"
            else:
                self._bytes = found.st_size
                return
        raise LedgerError(f"ledger {self._path}: expected the file that was opened, got {came}; {PUT_BACK}")


def create_ledger(path: Path, simulated: bool) -> None:
    """Make an empty ledger, complete under another name first: a kill leaves either no ledger or a whole one.

    Raises:
        LedgerError: there is a write-ahead log without its ledger.
    """
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
