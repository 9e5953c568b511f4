"""What the fault runs count: each kind of loss, made on purpose, is seen, and a run without loss shows none."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults import KILLS, OTHERS, PEOPLE, Run, left_of, plan_of, write_config
from shared.fault_outcomes import RESULTS, Losses, read_outcomes
from shared.kill_phases import ASKED, CLOSING, OTHERS_WORK, PHASES, REPLY, TRAINING, WITH_SHELL, phase_of

from fl_core.errors import ConfigError
from fl_core.privacy.ledger import Ledger
from fl_core.privacy.policy import DevicePolicy
from fl_core.runlog import RunLog
from fl_core.types import DpTerms

TERMS = DpTerms(epsilon=8.0, delta=1e-5, clip_norm=1.0, noise_multiplier=1.0, sample_rate=0.5, steps=1, normaliser=8.0)
POLICY = DevicePolicy(epsilon_cap=8.0, delta=1e-5, max_clip_norm=1.0, min_noise_multiplier=0.5, max_sample_rate=1.0)


def a_run(folder: Path, reserved: list[int], finished: list[int], rounds: list[tuple[int, int]]) -> Run:
    """A run whose devices have ``reserved`` a task for each of these rounds, in whose events each was summed in the
    rounds ``finished``, and whose ``rounds`` have accepted so many."""
    federation = write_config(folder, rounds=9)
    for person in PEOPLE:
        federation.home(person).mkdir(parents=True)
        ledger = Ledger(federation.home(person) / "ledger.sqlite")
        ledger.enrol(person, 16)
        for round in reserved:
            ledger.reserve(person, f"task-{round}", TERMS, POLICY)
        ledger.close()
    log = RunLog(folder / "run", "faults")
    for round, accepted in rounds:
        for person in PEOPLE:
            for _ in range(finished.count(round)):
                log.append(
                    "client_finished", round, client_id=person, task_id=f"task-{round}", uplink_bytes=1, local_steps=1,
                    epsilon=1.0,
                )  # fmt: skip
        log.append(
            "round_finished", round, accepted=accepted, rejected=0, quorum=2, uplink_bytes=1, downlink_bytes=1,
            seconds=1.0, epsilon_max=1.0, user_epsilon=None, staleness={}, evaluation=None,
        )  # fmt: skip
    log.close()
    return Run(federation, folder / "run")


@pytest.mark.parametrize(
    ("reserved", "finished", "rounds", "losses"),
    [
        ([1, 2], [1, 2], [(1, 3), (2, 3)], Losses()),
        ([1, 2], [1, 2], [(1, 3), (2, 1)], Losses(rounds_lost=1)),
        ([1, 3], [1, 3], [(1, 3), (3, 3)], Losses(rounds_lost=1)),
        ([1, 2], [1, 2, 2], [(1, 3), (2, 3)], Losses(double_counts=3)),
        ([1], [1, 2], [(1, 3), (2, 3)], Losses(ledger_under=3)),
        ([1, 7, 8], [1, 2], [(1, 3), (2, 3)], Losses(ledger_under=3)),
    ],
    ids=[
        "nothing",
        "no quorum",
        "a round left out",
        "summed twice",
        "not in the ledger",
        "not in the ledger beside tasks that were never summed",
    ],
)
def test_each_loss_is_seen(
    tmp_path: Path, reserved: list[int], finished: list[int], rounds: list[tuple[int, int]], losses: Losses
) -> None:
    assert a_run(tmp_path, reserved, finished, rounds).losses() == losses


def test_a_second_call_does_what_is_left() -> None:
    plan = plan_of(len(KILLS) + 1, [])
    assert [name for name, _ in plan] == [*KILLS, next(iter(KILLS)), *OTHERS]
    others = [(name, "") for name in OTHERS if name != "nan"]
    assert left_of(plan, [*plan[: len(KILLS)], ("nan", "")]) == [plan[len(KILLS)], *others]
    assert left_of(plan, plan) == []
    with pytest.raises(ConfigError, match="got teapot"):
        plan_of(1, ["teapot"])


def test_every_kill_comes_in_every_phase_that_it_can_come_in() -> None:
    for only in ([], ["trainer"], list(KILLS)[:4], list(KILLS)[:5]):
        plan = plan_of(len(PHASES) * (len(only) or len(KILLS)), only)
        for name in only or KILLS:
            assert {phase for fault, phase in plan if fault == name} == set(WITH_SHELL if name == "shell" else PHASES)
    assert {phase for name, phase in plan_of(0, [])} == {""}
    assert plan_of(1, ["nan"]) == [("nan", "")]


def test_results_without_phases_are_refused(tmp_path: Path) -> None:
    (tmp_path / RESULTS).write_text('{"fault": "up", "person": "person-01", "phase_s": 1.0, "losses": {}}\n')
    with pytest.raises(ConfigError, match="expected the phase of each kill"):
        read_outcomes(tmp_path)


def test_the_phases_of_a_round_follow_each_other(tmp_path: Path) -> None:
    person, *others = PEOPLE
    run = a_run(tmp_path, [1], [1], [(1, 3)])
    log = RunLog(tmp_path / "run", "faults")
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.enrol(person, 16)
    ledger.reserve(person, "task-1", TERMS, POLICY)
    ledger.settle(person, "task-1", b"reply", None)
    seen = []

    def look() -> None:
        seen.append(phase_of(run.watch.poll(), person, PEOPLE, ledger.history(person)[-1]))

    def summed(client: str) -> None:
        log.append("client_finished", 2, client_id=client, task_id="task-2", uplink_bytes=1, local_steps=1, epsilon=1.0)

    log.append("round_started", 1, cohort=list(PEOPLE))
    look()
    log.append("round_started", 2, cohort=list(PEOPLE))
    look()
    ledger.reserve(person, "task-2", TERMS, POLICY)
    look()
    ledger.settle(person, "task-2", b"reply", None)
    look()
    summed(person)
    look()
    for other in others:
        summed(other)
    look()
    log.close()
    ledger.close()
    assert seen == [CLOSING, ASKED, TRAINING, REPLY, OTHERS_WORK, CLOSING]
