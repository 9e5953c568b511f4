"""Two caps: a run's own counts that run alone, the policy's counts the data for ever."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fl_core.errors import BudgetSpentError
from fl_core.privacy.ledger import Ledger
from support.ledgers import DELTA, POLICY, ROUNDS, TERMS

WIDE = replace(POLICY, epsilon_cap=60.0)


def spend(ledger: Ledger, run: str, rounds: int = ROUNDS, **terms: object) -> float:
    """So many rounds of a run; what the data has spent after them."""
    asked = replace(TERMS, **terms)  # type: ignore[arg-type]
    return [ledger.reserve("data", f"{run} {n}", asked, WIDE, run=run).epsilon for n in range(rounds)][-1]


@pytest.mark.parametrize("accountant", ["rdp", "pld"])
def test_a_second_run_has_its_own_cap_and_adds_to_what_the_data_has_spent(ledger: Ledger, accountant: str) -> None:
    first = spend(ledger, "a", accountant=accountant)
    second = spend(ledger, "b", accountant=accountant)
    assert first <= 4.0 < second
    for run in ("a", "b"):
        assert ledger.spent_in_run("data", run, DELTA, accountant) == pytest.approx(first)


def test_a_run_that_asks_for_more_than_its_cap_is_refused_whatever_the_policy_allows(ledger: Ledger) -> None:
    spend(ledger, "a", rounds=2)
    spend(ledger, "b")
    spend(ledger, "a", rounds=ROUNDS - 2)  # resumed after another one
    for run in ("a", "b"):
        with pytest.raises(BudgetSpentError, match=r"in this run from .* over its cap of 4 \(privacy\.epsilon"):
            spend(ledger, run, rounds=1)


def test_the_policys_cap_holds_over_all_runs(ledger: Ledger) -> None:
    spent = spend(ledger, "a")
    with pytest.raises(BudgetSpentError, match=r"over all runs from .* over its cap of 4\.1 \(epsilon_cap") as refused:
        ledger.reserve("data", "b 1", TERMS, replace(WIDE, epsilon_cap=4.1), run="b")
    assert f"{spent:.4f}" in str(refused.value)
    assert ledger.spent("data", DELTA) == spent


def test_the_first_task_of_a_run_is_told_from_its_others(ledger: Ledger) -> None:
    runs = ["a", "a", "b", "b", "a"]
    told = [ledger.reserve("data", f"task {n}", TERMS, WIDE, run=run).new_run for n, run in enumerate(runs)]
    assert told == [True, False, True, False, True]
