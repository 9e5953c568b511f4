"""A ledger that was changed, cut or damaged is an error that says where, and never counts for less."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from fl_core.errors import LedgerError
from fl_core.privacy import ledger_db
from fl_core.privacy.ledger import Ledger
from support.ledgers import DELTA, POLICY, TERMS, opened, run_round


@pytest.mark.parametrize(
    "statement",
    ["UPDATE entries SET rdp = x''", "DELETE FROM entries", "DELETE FROM meta", "UPDATE meta SET value = 'x'"],
)
def test_the_file_itself_refuses_to_forget(ledger: Ledger, tmp_path: Path, statement: str) -> None:
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as db, pytest.raises(sqlite3.IntegrityError):
        db.execute(statement)


def tamper(path: Path, *statements: str) -> None:
    """Change entries as someone would who takes the triggers off first."""
    with closing(sqlite3.connect(path)) as db, db:
        for trigger in ("entries_never_change", "entries_never_go"):
            db.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            db.execute(statement)


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE entries SET rdp = zeroblob(length(rdp)) WHERE seq = 4", "entry 4 .* was changed"),
        ("UPDATE entries SET body = replace(body, '10', '1') WHERE seq = 2", "entry 2 .* was changed"),
        ("UPDATE entries SET task_id = 'x' WHERE seq = 3", "entry 3 .* was changed"),
        ("UPDATE entries SET body = 'x' WHERE seq = 3", "entry 3 cannot be read"),
        ("UPDATE entries SET rdp = x'00' WHERE seq = 3", "entry 3 cannot be read"),
        ("DELETE FROM entries WHERE seq = 3", "entry 3 is missing"),
        ("DELETE FROM entries WHERE seq = 5", "expected 5 entries, got 4"),
        ("DELETE FROM entries", "expected 5 entries, got 0"),
    ],
)
def test_tampering_is_found_and_named(ledger: Ledger, tmp_path: Path, statement: str, told: str) -> None:
    for number in range(2):
        run_round(ledger, number)
    ledger.verify()
    tamper(tmp_path / "ledger.db", statement)
    with pytest.raises(LedgerError, match=told):
        ledger.verify()
    with pytest.raises(LedgerError, match=told):
        opened(tmp_path / "ledger.db")


def test_an_entry_that_charges_too_little_is_found_although_its_hash_is_right(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ledger_db, "rdp_of", lambda events: np.zeros(len(ledger_db.ORDERS)))
        ledger.reserve("data", "task", TERMS, POLICY)
    with pytest.raises(LedgerError, match=r"entry 2 .* charges less"):
        ledger.verify()


def test_a_damaged_reply_is_not_sent(ledger: Ledger, tmp_path: Path) -> None:
    run_round(ledger, 1)
    tamper(tmp_path / "ledger.db", "UPDATE replies SET reply = x'00'")
    with pytest.raises(LedgerError, match="reply of task 'task 1' is damaged"):
        ledger.reply("data", "task 1")


@pytest.mark.parametrize("content", [b"", b"not a database at all" * 100])
def test_a_file_that_is_no_ledger_is_never_a_new_start(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=r"ledger\.db"):
        opened(path)
    assert path.read_bytes() == content


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as db, db:
        db.execute("CREATE TABLE other (x)")
    with pytest.raises(LedgerError, match="expected journal mode wal, got delete"):
        opened(tmp_path / "ledger.db")


def test_damaged_pages_never_lower_what_was_spent(tmp_path: Path) -> None:
    whole = opened(tmp_path / "whole.db")
    whole.enrol("data", 5)
    for number in range(3):
        run_round(whole, number)
    spent = whole.spent("data", DELTA)
    whole.close()
    content = (tmp_path / "whole.db").read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(60):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 20):
            damaged[place] ^= int(rng.integers(1, 256))
        path = tmp_path / f"{trial}.db"
        path.write_bytes(damaged)
        try:
            assert opened(path).spent("data", DELTA) == spent
        except LedgerError:
            refused += 1
    assert refused > 30


def test_a_missing_file_beside_its_log_is_never_a_new_start(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "ledger.db").unlink()
    with pytest.raises(LedgerError, match="write-ahead log"):
        opened(tmp_path / "ledger.db")


def test_a_simulations_ledger_and_a_boards_are_not_mixed_up(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="simulated = true, got false"):
        opened(tmp_path / "ledger.db", simulated=True)
