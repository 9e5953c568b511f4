"""When a run is hopeless: who may still come is waited for, who cannot is not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fl_server.rounds.in_vain import is_hopeless, nothing_came
from fl_server.watch.state import RunState, state_of

Left = tuple[int, str, str]
FAILED, REFUSED, REJECTED, MISSING = "client_failed", "client_refused", "client_rejected", "client_missing"


def run_of(clients: int, left_out: Sequence[Left]) -> RunState:
    names = [f"c{number}" for number in range(clients)]
    events = [{"kind": kind, "round": round, "client_id": who, "reason": "no"} for round, who, kind in left_out]
    return state_of([{"kind": "run_started", "run": "r", "round": 0, "clients": names}, *events])


def all_of(clients: int, kind: str, rounds: int = 1) -> list[Left]:
    return [(round, f"c{number}", kind) for round in range(1, rounds + 1) for number in range(clients)]


@pytest.mark.parametrize(
    ("left_out", "simulated", "deployed"),
    [
        (all_of(3, FAILED), True, False),
        (all_of(3, REJECTED), True, False),
        (all_of(3, REFUSED), True, True),
        (all_of(3, FAILED, rounds=2), True, False),
        (all_of(3, FAILED, rounds=3), True, True),
        (all_of(3, MISSING, rounds=50), False, False),
        (all_of(2, FAILED, rounds=9), False, False),
        ([*all_of(2, REFUSED), *[(round, "c2", FAILED) for round in (1, 2, 3)]], True, True),
        ([*all_of(2, REFUSED, rounds=9), (1, "c2", MISSING)], False, False),
        ([(0, f"c{number}", FAILED) for number in range(3)], False, False),
    ],
)
def test_a_run_of_three_clients_is_hopeless_once_none_of_them_is_worth_asking(left_out, simulated, deployed) -> None:
    state = run_of(3, left_out)
    assert is_hopeless(state, simulated=True) is simulated
    assert is_hopeless(state, simulated=False) is deployed


def test_of_a_crowd_ten_are_enough_and_one_that_succeeded_is_hope() -> None:
    assert not is_hopeless(run_of(1000, all_of(9, FAILED)), simulated=True)
    state = run_of(1000, all_of(10, FAILED))
    assert is_hopeless(state, simulated=True)
    state.update({"kind": "client_finished", "round": 1, "client_id": "c99", "epsilon": None})
    assert not is_hopeless(state, simulated=True)


def test_a_quorum_that_those_who_are_left_cannot_meet_is_hopeless() -> None:
    state = run_of(4, all_of(2, FAILED))
    state.update({"kind": "client_finished", "round": 1, "client_id": "c3", "epsilon": None})
    assert is_hopeless(state, simulated=True, least=3)
    assert not is_hopeless(state, simulated=True, least=2)
    assert not is_hopeless(state, simulated=False, least=3)
    state.update({"kind": "client_finished", "round": 2, "client_id": "c1", "epsilon": None})
    assert not is_hopeless(state, simulated=True, least=3), "it is worth asking after all"


def test_the_only_reason_stands_in_the_line_and_several_follow_it() -> None:
    one, two = run_of(2, all_of(2, FAILED)), run_of(2, [(1, "c0", FAILED), (1, "c1", MISSING)])
    (line,) = nothing_came(one).problems
    assert line.endswith("so nothing was trained: 2 of 2 clients failed: c0, c1: no")
    assert nothing_came(two).problems[1:] == (
        "1 of 2 clients failed: c0: no",
        "1 of 2 clients gave no answer in time: c1: no",
    )


@pytest.mark.parametrize(
    ("cohort", "says"),
    [(["c0", "c1", "c2"], "no client failed, and the strategy's ready"), ([], "no client was asked")],
)
def test_rounds_that_end_too_early_are_no_rounds_in_which_nobody_was_asked(cohort: list[str], says: str) -> None:
    state = run_of(3, [])
    state.update({"kind": "round_started", "round": 1, "cohort": cohort})
    assert says in str(nothing_came(state))
