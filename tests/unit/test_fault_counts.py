"""What the fault runs count: each kind of loss, made on purpose, is seen, and a run without loss shows none."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults import KILLS, OTHERS, PEOPLE, Losses, Run, left_of, plan_of, write_config

from fl_core.errors import ConfigError
from fl_core.privacy.ledger import Ledger
from fl_core.privacy.policy import DevicePolicy
from fl_core.runlog import RunLog
from fl_core.types import DpTerms

TERMS = DpTerms(epsilon=8.0, delta=1e-5, clip_norm=1.0, noise_multiplier=1.0, sample_rate=0.5, steps=1, normaliser=8.0)
POLICY = DevicePolicy(epsilon_cap=8.0, delta=1e-5, max_clip_norm=1.0, min_noise_multiplier=0.5, max_sample_rate=1.0)


def a_run(folder: Path, reserved: int, finished: list[int], rounds: list[tuple[int, int]]) -> Run:
    """A run whose devices have ``reserved`` tasks each, in whose events each was summed in the rounds ``finished``,
    and whose ``rounds`` have accepted so many."""
    federation = write_config(folder, rounds=9)
    for person in PEOPLE:
        federation.home(person).mkdir(parents=True)
        ledger = Ledger(federation.home(person) / "ledger.sqlite")
        ledger.enrol(person, 16)
        for task in range(reserved):
            ledger.reserve(person, f"task-{task}", TERMS, POLICY)
        ledger.close()
    log = RunLog(folder / "run", "faults")
    for round, accepted in rounds:
        for person in PEOPLE:
            for _ in range(finished.count(round)):
                log.append("client_finished", round, client_id=person, uplink_bytes=1, local_steps=1, epsilon=1.0)
        log.append(
            "round_finished", round, accepted=accepted, rejected=0, quorum=2, uplink_bytes=1, downlink_bytes=1,
            seconds=1.0, epsilon_max=1.0, user_epsilon=None, staleness={}, evaluation=None,
        )  # fmt: skip
    log.close()
    return Run(federation, folder / "run")


@pytest.mark.parametrize(
    ("reserved", "finished", "rounds", "losses"),
    [
        (2, [1, 2], [(1, 3), (2, 3)], Losses()),
        (2, [1, 2], [(1, 3), (2, 1)], Losses(rounds_lost=1)),
        (2, [1, 3], [(1, 3), (3, 3)], Losses(rounds_lost=1)),
        (2, [1, 2, 2], [(1, 3), (2, 3)], Losses(double_counts=3)),
        (1, [1, 2], [(1, 3), (2, 3)], Losses(ledger_under=3)),
    ],
    ids=["nothing", "no quorum", "a round left out", "summed twice", "not in the ledger"],
)
def test_each_loss_is_seen(
    tmp_path: Path, reserved: int, finished: list[int], rounds: list[tuple[int, int]], losses: Losses
) -> None:
    assert a_run(tmp_path, reserved, finished, rounds).losses() == losses


def test_a_second_call_does_what_is_left() -> None:
    plan = plan_of(len(KILLS) + 1, [])
    first = next(iter(KILLS))
    assert plan == [*KILLS, first, *OTHERS]
    assert left_of(plan, [*KILLS, "nan"]) == [first, *(name for name in OTHERS if name != "nan")]
    assert left_of(plan, plan) == []
    with pytest.raises(ConfigError, match="got teapot"):
        plan_of(1, ["teapot"])
