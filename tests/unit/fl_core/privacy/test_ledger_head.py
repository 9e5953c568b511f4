"""A ledger that is not the newest one of its device is refused and named, and can be begun again without forgetting."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fl_core.errors import BudgetSpentError, ConfigError, LedgerError
from fl_core.privacy.accountant import epsilon, rdp
from fl_core.privacy.ledger import Ledger
from fl_core.privacy.ledger_head import HeadFile
from fl_core.privacy.ledger_loss import LedgerLoss, begin_again
from support.ledgers import DELTA, NOISE, POLICY, ROUNDS, TERMS, opened, run_round

PARTS = ("", "-wal", "-shm")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "board" / "ledger.db"


def board(path: Path) -> Ledger:
    """The ledger of a board, whose head lies in another folder."""
    ledger = opened(path, heads=heads_of(path))
    ledger.enrol("data", 5)
    return ledger


def heads_of(path: Path) -> HeadFile:
    return HeadFile(path.parent / "head" / "ledger.json")


def trained(path: Path, rounds: int = 2) -> float:
    """Train so many rounds and switch the board off; gives what they spent."""
    ledger = board(path)
    for number in range(rounds):
        run_round(ledger, number)
    spent = ledger.spent("data", DELTA)
    ledger.close()
    return spent


def remove(path: Path) -> None:
    for part in PARTS:
        path.with_name(path.name + part).unlink(missing_ok=True)


def put_back_an_older_one(path: Path) -> None:
    older = path.parent / "backup.db"
    shutil.copy(path, older)
    run = board(path)
    run_round(run, 7)
    run.close()
    remove(path)
    older.rename(path)


def replace_by_anothers(path: Path) -> None:
    remove(path)
    other = opened(path)
    other.enrol("data", 5)
    for number in range(ROUNDS):
        run_round(other, number)
    other.close()


def begin_anew(path: Path) -> None:
    remove(path)
    opened(path).close()


LOST: dict[str, tuple[Callable[[Path], None], str]] = {
    "removed": (remove, "no file"),
    "older": (put_back_an_older_one, "5 entries"),
    "another's": (replace_by_anothers, "another history"),
    "empty": (begin_anew, "0 entries"),
}


@pytest.mark.parametrize("how", LOST)
def test_a_ledger_that_is_not_the_newest_one_is_refused_and_named(path: Path, how: str) -> None:
    trained(path)
    lose, came = LOST[how]
    lose(path)
    with pytest.raises(LedgerError) as refusal:
        board(path)
    for told in (str(path), "'data'", f"got {came}", "expected", "epsilon", "fl-client replace-ledger"):
        assert told in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert path.exists() == (how != "removed")


@pytest.mark.parametrize("how", ["removed", "older"])
def test_a_file_that_changes_while_it_is_in_use_takes_no_further_reservation(path: Path, how: str) -> None:
    trained(path)
    ledger = board(path)
    if how == "removed":
        remove(path)
    else:
        shutil.copy(path, path.with_name("copy"))
        path.with_name("copy").replace(path)
    with pytest.raises(LedgerError, match="expected the file that was opened"):
        run_round(ledger, 8)


def test_a_kill_between_ledger_and_head_refuses_nothing_and_forgets_nothing(path: Path) -> None:
    trained(path, rounds=1)
    killed = opened(path)  # its commits are there, and its head was not written any more
    run_round(killed, 5)
    killed.close()
    ledger = board(path)
    ledger.keep_head("data")
    ledger.close()
    remove(path)
    with pytest.raises(LedgerError, match="at least 4 entries"):
        board(path)


def test_a_head_is_written_before_training_can_begin(path: Path) -> None:
    ledger = board(path)
    assert heads_of(path).load() == {}
    reserved = ledger.reserve("data", "task", TERMS, POLICY)
    head = heads_of(path).load()["data"]
    assert (head.epsilon, head.position) == (reserved.epsilon, 1)
    assert heads_of(path).path.stat().st_mode & 0o077 == 0


def test_a_damaged_head_is_refused_and_named(path: Path) -> None:
    trained(path)
    for text in ("", "[]", '{"data": {"position": 1}}'):
        heads_of(path).path.write_text(text)
        with pytest.raises(LedgerError, match=r"ledger head .*ledger\.json"):
            board(path)


def loss(path: Path) -> LedgerLoss:
    return begin_again(path, heads_of(path), POLICY, simulated=False)


@pytest.mark.parametrize(("how", "rounds"), [("removed", 2), ("older", 3), ("empty", 2)])
def test_a_ledger_begun_again_starts_from_all_that_was_spent(path: Path, how: str, rounds: int) -> None:
    trained(path)
    LOST[how][0](path)
    found = loss(path)
    spent = epsilon(rdp(0.1, NOISE, rounds * 10), DELTA)
    assert found.epsilon["data"] == pytest.approx(spent)
    assert found.unknown == ()
    ledger = board(path)
    assert ledger.spent("data", DELTA) == pytest.approx(spent)
    for number in range(rounds, ROUNDS):
        run_round(ledger, number)
    with pytest.raises(BudgetSpentError):
        ledger.reserve("data", "one more", TERMS, replace(POLICY, epsilon_cap=4.0))
    assert ledger.spent("data", DELTA, "pld") == ledger.spent("data", DELTA)  # its events are lost, its sum is not
    assert ledger.enrol("data", 99) == 5


def test_a_copy_that_spent_on_the_same_data_counts_beside_the_original(path: Path) -> None:
    trained(path, rounds=1)
    copy = path.parent / "copy.db"
    shutil.copy(path, copy)
    ledger = board(path)
    run_round(ledger, 1)
    ledger.close()
    other = opened(copy)
    run_round(other, 2)
    other.close()
    remove(path)
    copy.rename(path)
    assert loss(path).epsilon["data"] >= epsilon(rdp(0.1, NOISE, 30), DELTA)


def test_an_answer_that_only_a_server_knows_stops_the_device_until_its_owner_saw_to_it(path: Path) -> None:
    trained(path)
    ledger = board(path)
    ledger.check_accepted("data", "task 1", "run")
    with pytest.raises(LedgerError, match="task of later"):
        ledger.check_accepted("data", "task of later", "run")
    for again in (ledger, None):
        with pytest.raises(LedgerError, match="task of later, whose answer a server holds"):
            run_round(again or board(path), 9)
    ledger.close()
    found = loss(path)
    assert found.unknown == ("data",)
    assert found.set_aside is None
    ledger = board(path)
    ledger.check_accepted("data", "task of later", "run")
    assert ledger.spent("data", DELTA) >= POLICY.epsilon_cap  # nobody knows what was spent: all that was allowed
    with pytest.raises(BudgetSpentError):
        ledger.reserve("data", "next", TERMS, POLICY)
    ledger.reserve("data", "next", TERMS, replace(POLICY, epsilon_cap=20.0))


def test_a_whole_ledger_is_not_replaced_and_one_without_a_head_cannot_be(path: Path) -> None:
    trained(path)
    with pytest.raises(ConfigError, match="nothing was changed"):
        loss(path)
    heads_of(path).path.unlink()
    path.write_bytes(b"no database" * 500)
    with pytest.raises(LedgerError, match="nothing says what was spent"):
        loss(path)


def test_the_file_that_was_lost_is_set_aside_and_not_deleted(path: Path) -> None:
    trained(path)
    replace_by_anothers(path)
    content = path.read_bytes()
    kept = loss(path).set_aside
    assert kept is not None
    assert kept.read_bytes() == content
    with pytest.raises(ConfigError):
        loss(path)
