"""Rules of selection: how many they choose, whom they prefer, and that equal names give equal choices."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fl_core.config.schema import SelectionSection
from fl_core.errors import ConfigError
from fl_core.rng import generator
from fl_core.types import ClientInfo
from fl_server.selection.base import Candidate, ClientHistory, histories_from_plain, histories_to_plain
from fl_server.selection.oort import Oort
from fl_server.selection.registry import SELECTIONS, build_selection

ARGS = {"speed": {"deadline_s": 30.0}}
MANY = 400
"""Draws of a test that counts."""


def info(number: int, **device: float) -> ClientInfo:
    return ClientInfo(f"client-{number:02d}", 64, "1", True, device=device)


def fleet(count: int = 10) -> list[Candidate]:
    return [
        Candidate(info(n), ClientHistory(asked=8, answered=n % 9, last_round=n, seconds=5.0 * n, loss=0.1 * n))
        for n in range(count)
    ]


def rule(name: str, **args: object):
    return build_selection(SelectionSection(name, args={**ARGS.get(name, {}), **args}), private=False)


def shares(selection, candidates: list[Candidate], wanted: int) -> dict[str, float]:
    counts = dict.fromkeys((each.client_id for each in candidates), 0)
    for number in range(MANY):
        for each in selection.choose(candidates, wanted, 5, generator("test", number)):
            counts[each.client_id] += 1
    return {name: count / MANY for name, count in counts.items()}


@pytest.mark.parametrize("name", sorted(SELECTIONS))
@pytest.mark.parametrize("wanted", [1, 4, 10, 30])
def test_as_many_as_wanted_each_once_in_order_and_again_the_same(name, wanted):
    chosen = [rule(name).choose(fleet(), wanted, 3, generator("cohort", 1, 3)) for _ in range(2)]
    names = [each.client_id for each in chosen[0]]
    assert len(names) == min(wanted, 10)
    assert names == sorted(set(names))
    assert chosen[0] == chosen[1]


@pytest.mark.parametrize("name", sorted(SELECTIONS))
def test_nobody_is_there_and_nobody_is_known(name):
    assert rule(name).choose([], 3, 1, generator("a")) == []
    strangers = [Candidate(info(n)) for n in range(5)]
    assert len(rule(name).choose(strangers, 3, 1, generator("a"))) == 3


def test_uniform_gives_everyone_the_same_share():
    found = shares(rule("uniform"), fleet(), 5)
    assert all(abs(share - 0.5) < 0.12 for share in found.values())


def test_availability_prefers_those_who_answer():
    candidates = [Candidate(info(0), ClientHistory(asked=8, answered=8)), Candidate(info(1), ClientHistory(asked=8))]
    found = shares(rule("availability"), candidates, 1)
    # weights 9/10 and 1/10
    assert found["client-00"] == pytest.approx(0.9, abs=0.06)


def test_speed_asks_the_slow_only_where_the_quick_do_not_suffice():
    found = shares(rule("speed", explore=0.0), fleet(), 4)
    assert all((share > 0) == (name <= "client-06") for name, share in found.items())
    names = [each.client_id for each in rule("speed", explore=0.0).choose(fleet(), 8, 1, generator("a"))]
    assert names[-1] == "client-07"  # the quickest of the slow ones
    assert shares(rule("speed", explore=0.5), fleet(), 4)["client-09"] > 0


def test_oort_utilities_are_worked_out_by_hand():
    candidates = [
        Candidate(replace(info(0), size_class=10), ClientHistory(last_round=1, seconds=5.0, loss=2.0)),
        Candidate(replace(info(1), size_class=10), ClientHistory(last_round=1, seconds=20.0, loss=2.0)),
    ]
    # 10 * 2; spread falls back to 20; round 1 has ln 1 = 0; the second takes twice as long as preferred
    assert Oort(preferred_s=10.0, penalty=2.0).utilities(candidates, 1) == pytest.approx([20.0, 5.0])


def test_oort_prefers_what_is_hard_and_explores_what_it_never_saw():
    hard = shares(rule("oort", explore=0.0, least_explore=0.0), fleet(), 2)
    assert hard["client-09"] > 2 * hard["client-01"]
    unseen = [Candidate(info(n)) if n < 5 else each for n, each in enumerate(fleet())]
    assert sum(shares(rule("oort"), unseen, 5)[f"client-0{n}"] for n in range(5)) > 2.5


def test_energy_spares_the_empty_and_the_hot():
    candidates = [
        Candidate(info(0, battery_share=0.1)),
        Candidate(info(1, battery_share=0.1, charging=1.0)),
        Candidate(info(2, temperature_c=90.0)),
        Candidate(info(3)),
    ]
    assert [each.client_id for each in rule("energy").choose(candidates, 4, 1, generator("a"))] == [
        "client-01",
        "client-03",
    ]


def test_losses_are_refused_under_privacy_and_wrong_values_by_name():
    with pytest.raises(ConfigError, match="losses of private examples"):
        build_selection(SelectionSection("oort"), private=True)
    for name, args, says in [
        ("speed", {"deadline_s": 0}, "deadline_s"),
        ("oort", {"cutoff": 2}, "cutoff"),
        ("unifrom", {}, "did you mean 'uniform'"),
        ("energy", {"least_battery_share": 0}, "least_battery_share"),
    ]:
        with pytest.raises(ConfigError, match=says):
            build_selection(SelectionSection(name, args=args), private=False)


def test_what_was_seen_survives_a_checkpoint():
    seen = {each.client_id: each.seen for each in fleet()}
    assert histories_from_plain(histories_to_plain(seen)) == seen
