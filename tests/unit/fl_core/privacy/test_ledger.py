"""Spent privacy is on disk before it is spent, adds up over rounds and runs, and is never forgotten or given back."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from pathlib import Path

import pytest

from fl_core.errors import BudgetSpentError, LedgerError, PolicyError
from fl_core.privacy.accountant import epsilon, rdp
from fl_core.privacy.budget import BudgetRequest
from fl_core.privacy.events import PrivacyEvent
from fl_core.privacy.ledger import Ledger
from fl_core.privacy.ledger_db import REPLIES_KEPT
from support.ledgers import DELTA, NOISE, POLICY, ROUNDS, TERMS, opened, run_round


@pytest.fixture
def simulation(tmp_path: Path) -> Ledger:
    made = opened(tmp_path / "simulation.db", simulated=True)
    made.enrol("data", 5)
    return made


def test_rounds_add_up_over_openings_of_the_file(tmp_path: Path) -> None:
    for number in range(ROUNDS):
        ledger = opened(tmp_path / "ledger.db")
        ledger.enrol("data", 5)
        run_round(ledger, number)
        ledger.close()
    spent = opened(tmp_path / "ledger.db").spent("data", DELTA)
    assert spent == pytest.approx(epsilon(rdp(0.1, NOISE, ROUNDS * 10), DELTA))
    assert spent <= 4.0


def test_an_unsettled_reservation_counts_in_full(ledger: Ledger) -> None:
    ledger.reserve("data", "killed", TERMS, POLICY)
    assert ledger.spent("data", DELTA) == pytest.approx(epsilon(rdp(0.1, NOISE, 10), DELTA))


def test_a_budget_fits_exactly_the_rounds_it_was_made_for(ledger: Ledger) -> None:
    for number in range(ROUNDS):
        run_round(ledger, number)
    before = ledger.spent("data", DELTA)
    with pytest.raises(BudgetSpentError) as refusal:
        ledger.reserve("data", "one more", TERMS, POLICY)
    for told in ("'data'", "'one more'", f"{before:.4f}", "cap of 4"):
        assert told in str(refusal.value)
    assert ledger.spent("data", DELTA) == before


def test_the_smaller_cap_of_server_and_device_holds(ledger: Ledger) -> None:
    tight = dataclasses.replace(TERMS, epsilon=0.5)
    with pytest.raises(BudgetSpentError, match=r"cap of 0\.5"):
        ledger.reserve("data", "task", tight, POLICY)
    with pytest.raises(PolicyError, match="epsilon"):
        ledger.reserve("data", "task", TERMS, dataclasses.replace(POLICY, epsilon_cap=0.5))
    assert ledger.spent("data", DELTA) == 0.0


def test_terms_below_the_policy_reserve_nothing(ledger: Ledger) -> None:
    with pytest.raises(PolicyError, match="noise_multiplier"):
        ledger.reserve("data", "task", dataclasses.replace(TERMS, noise_multiplier=0.1), POLICY)
    assert len(ledger.history("data")) == 1


def test_ranges_are_paid_for_beside_training(ledger: Ledger) -> None:
    histogram = PrivacyEvent(sample_rate=1.0, noise_multiplier=5.0, steps=1)
    ledger.reserve("data", "ranges", TERMS, POLICY, events=(histogram,))
    assert ledger.spent("data", DELTA) == pytest.approx(epsilon(rdp(1.0, 5.0, 1), DELTA))
    run_round(ledger, 1)
    assert ledger.rdp("data") == pytest.approx(rdp(1.0, 5.0, 1) + rdp(0.1, NOISE, 10))
    assert ledger.events("data") == [histogram, PrivacyEvent(0.1, NOISE, 10)]


def test_the_tighter_accountant_allows_more_rounds(tmp_path: Path) -> None:
    rounds = {}
    for name in ("rdp", "pld"):
        ledger = opened(tmp_path / f"{name}.db")
        ledger.enrol("data", 5)
        terms = dataclasses.replace(TERMS, accountant=name)
        rounds[name] = 0
        with contextlib.suppress(BudgetSpentError):
            for number in range(20):
                ledger.reserve("data", f"task {number}", terms, POLICY)
                rounds[name] += 1
        assert ledger.spent("data", DELTA, name) <= 4.0
    assert rounds["pld"] > rounds["rdp"] == ROUNDS


def test_data_sets_do_not_pay_for_each_other(ledger: Ledger) -> None:
    ledger.enrol("other", 5)
    run_round(ledger, 1)
    assert ledger.spent("other", DELTA) == 0.0
    assert ledger.reply("other", "task 1") is None
    assert ledger.state("other") is None


def test_a_size_class_is_fixed_for_ever(ledger: Ledger) -> None:
    assert ledger.enrol("data", 9) == 5
    assert ledger.enrol("data", 9) == 5
    assert [entry.kind for entry in ledger.history("data")] == ["enrol"]


def test_a_data_set_that_is_not_enrolled_cannot_reserve(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="'stranger' is not enrolled"):
        ledger.reserve("stranger", "task", TERMS, POLICY)


def test_many_are_reserved_at_once_and_refusals_concern_their_own(ledger: Ledger) -> None:
    for name in ("poor", "rich", "lax"):
        ledger.enrol(name, 5)
    for number in range(ROUNDS):
        run_round(ledger, number, "poor")
    lax = dataclasses.replace(TERMS, clip_norm=9.0)
    answer = ledger.reserve_many(
        [BudgetRequest(name, "task", terms, POLICY) for name, terms in (("poor", TERMS), ("rich", TERMS), ("lax", lax))]
    )
    assert set(answer.granted) == {"rich"}
    assert {name: type(refusal) for name, refusal in answer.refused.items()} == {
        "poor": BudgetSpentError,
        "lax": PolicyError,
    }
    assert answer.granted["rich"].epsilon == ledger.spent("rich", DELTA) > 0


def test_many_are_reserved_together_or_not_at_all(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="not enrolled"):
        ledger.reserve_many(
            [BudgetRequest("data", "task", TERMS, POLICY), BudgetRequest("stranger", "task", TERMS, POLICY)]
        )
    assert ledger.spent("data", DELTA) == 0.0
    with pytest.raises(LedgerError, match="one request per data set"):
        ledger.reserve_many([BudgetRequest("data", task, TERMS, POLICY) for task in ("a", "b")])


def test_a_task_delivered_twice_finds_its_reply(ledger: Ledger) -> None:
    assert ledger.reply("data", "task 1") is None
    run_round(ledger, 1)
    assert ledger.reply("data", "task 1") == b"reply 1"


def test_old_replies_go_and_entries_stay(ledger: Ledger) -> None:
    cheap = dataclasses.replace(TERMS, noise_multiplier=50.0)
    for number in range(REPLIES_KEPT + 3):
        ledger.reserve("data", f"task {number}", cheap, POLICY)
        ledger.settle("data", f"task {number}", b"reply", None)
    kept = [number for number in range(REPLIES_KEPT + 3) if ledger.reply("data", f"task {number}")]
    assert kept == list(range(3, REPLIES_KEPT + 3))
    assert len(ledger.history("data")) == 1 + 2 * (REPLIES_KEPT + 3)


def test_what_was_not_reserved_or_is_settled_cannot_be_settled(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="never reserved"):
        ledger.settle("data", "task 1", b"reply", None)
    run_round(ledger, 1)
    with pytest.raises(LedgerError, match="settled already"):
        ledger.settle("data", "task 1", b"another", None)
    assert ledger.reply("data", "task 1") == b"reply 1"


def test_on_a_board_every_run_of_a_task_is_charged(ledger: Ledger) -> None:
    for _ in range(2):
        assert not ledger.reserve("data", "task", TERMS, POLICY).reused
    assert ledger.rdp("data") == pytest.approx(2 * rdp(0.1, NOISE, 10))


def test_in_simulation_a_task_that_is_run_again_is_charged_once(simulation: Ledger) -> None:
    first = simulation.reserve("data", "task", TERMS, POLICY)
    again = simulation.reserve("data", "task", TERMS, POLICY)
    assert (again.reused, again.entry, again.epsilon) == (True, first.entry, first.epsilon)
    simulation.settle("data", "task", b"reply", None)
    assert simulation.reserve("data", "task", TERMS, POLICY).reused
    simulation.settle("data", "task", b"reply", None)
    assert simulation.rdp("data") == pytest.approx(rdp(0.1, NOISE, 10))
    assert [entry.kind for entry in simulation.history("data")] == ["enrol", "reserve", "settle"]


def test_in_simulation_a_task_cannot_come_back_with_other_terms(simulation: Ledger) -> None:
    simulation.reserve("data", "task", TERMS, POLICY)
    with pytest.raises(LedgerError, match="now asks for"):
        simulation.reserve("data", "task", dataclasses.replace(TERMS, steps=9), POLICY)


def test_a_state_waits_until_its_update_is_accepted(ledger: Ledger) -> None:
    run_round(ledger, 1)
    assert ledger.state("data") is None
    ledger.promote("data", "task 1")
    ledger.promote("data", "task 1")
    assert ledger.state("data") == b"state 1"


def test_a_state_whose_update_was_not_accepted_is_dropped_and_its_cost_stays(ledger: Ledger) -> None:
    run_round(ledger, 1)
    ledger.promote("data", "task 1")
    run_round(ledger, 2)
    spent = ledger.spent("data", DELTA)
    ledger.promote("data", "task 1")
    assert ledger.state("data") == b"state 1"
    run_round(ledger, 3)
    assert ledger.spent("data", DELTA) > spent


@pytest.mark.parametrize("accepted", [None, "task 2", "task of another run"])
def test_a_state_of_another_update_than_the_accepted_one_is_not_used(ledger: Ledger, accepted: str | None) -> None:
    run_round(ledger, 1)
    ledger.promote("data", "task 1")
    run_round(ledger, 3)
    ledger.promote("data", accepted)
    assert ledger.state("data") is None


def test_a_task_without_privacy_keeps_reply_and_state_too(ledger: Ledger) -> None:
    ledger.store("data", "free", b"reply", b"state")
    ledger.promote("data", "free")
    assert (ledger.reply("data", "free"), ledger.state("data")) == (b"reply", b"state")
    assert ledger.spent("data", DELTA) == 0.0
    ledger.reserve("data", "paid", TERMS, POLICY)
    with pytest.raises(LedgerError, match="settle it instead"):
        ledger.store("data", "paid", b"reply", None)


def test_settling_is_one_with_reply_and_state(ledger: Ledger) -> None:
    ledger.reserve("data", "task", TERMS, POLICY)
    with pytest.raises(LedgerError):
        ledger.settle("data", "task", b"reply", object())  # type: ignore[arg-type]  # cannot be stored
    assert ledger.reply("data", "task") is None
    assert [entry.kind for entry in ledger.history("data")] == ["enrol", "reserve"]
    ledger.settle("data", "task", b"reply", b"state")


def test_several_writers_do_not_lose_entries(tmp_path: Path) -> None:
    cheap = dataclasses.replace(TERMS, noise_multiplier=100.0)

    def write(name: str) -> None:
        ledger = opened(tmp_path / "ledger.db")
        ledger.enrol("data", 5)
        for number in range(10):
            ledger.reserve("data", f"{name} {number}", cheap, POLICY)
        ledger.close()

    threads = [threading.Thread(target=write, args=(f"writer {i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger = opened(tmp_path / "ledger.db")
    assert ledger.rdp("data") == pytest.approx(rdp(0.1, 100.0, 400))
    assert len(ledger.history("data")) == 41
