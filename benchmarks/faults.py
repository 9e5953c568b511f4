"""Kills every process of a federation in random phases of a round, and does worse, and counts what was lost by it.

    python benchmarks/faults.py --kills 200

Server, gateway and three devices are real processes on loopback, with TLS and certificates; each kill is SIGKILL.
Beside the kills: a network that stalls for 40 s, a proxy that accepts and drops for as long, a server that is gone for
20 min, a full disk, a clock that is an hour wrong, a client that sends NaN.
``--lost-hours 72`` puts the wall clocks of all processes forward by so much while the server is gone: for certificates
and time stamps it was away for days.
Results are written as they come, to ``results.jsonl`` in the folder; a second call goes on where the first one ended.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from inject.harm import KILLS, OTHERS, FleetScene, Harm, Watch
from inject.later import LaterClock
from shared.fault_outcomes import FaultOutcome, Losses, keep_outcome, read_outcomes, tables_of
from shared.kill_phases import phase_of, schedule_of
from shared.printing import show

from fl_core.config import load_config
from fl_core.errors import ConfigError, RoundError
from fl_core.privacy.ledger import Ledger
from fl_core.privacy.ledger_db import LedgerDb
from fl_core.process.command import errors_as_lines
from fl_server.deploy.home import ServerHome
from fl_server.deploy.operations import stop_run, want_run
from fl_server.rounds.checkpoint import load_checkpoint
from simulation.local_fleet import LocalFleet, federation_up

PEOPLE = ("person-01", "person-02", "person-03")
RECOVERY_S = 300.0
"""After so long a fault counts as not recovered from."""
UNDISTURBED = 3
"""Rounds before the first fault, which show how long a round takes."""


class Run:
    """A run of the federation that is under way."""

    def __init__(self, federation: LocalFleet, run_dir: Path) -> None:
        self.watch = Watch(run_dir)
        self._federation = federation
        self._run_dir = run_dir
        self._most_done = 0

    def full_rounds(self) -> list[Mapping[str, Any]]:
        """The rounds that ended with every device's update."""
        return [event for event in self.watch.of_kind("round_finished") if event["accepted"] == len(PEOPLE)]

    def open_round(self) -> int:
        """The round that was started last."""
        return max((int(event["round"]) for event in self.watch.of_kind("round_started")), default=0)

    def wait_for(self, scene: FleetScene, person: str, phase: str) -> None:
        """Until a round is in that phase for a person's board.

        Raises:
            RoundError: none is, for so long.
        """
        with closing(LedgerDb(self._federation.home(person) / "ledger.sqlite", simulated=False)) as ledger:
            scene.wait(
                lambda: phase_of(self.watch.poll(), person, PEOPLE, ledger.head(person)) == phase,
                f"{phase} of {person}", RECOVERY_S,
            )  # fmt: skip

    def losses(self) -> Losses:
        """What has been lost so far, from events, checkpoint and ledgers."""
        checkpoint = load_checkpoint(self._run_dir / "checkpoint")
        done = checkpoint.rounds_done if checkpoint else 0
        taken_back, self._most_done = max(0, self._most_done - done), max(self._most_done, done)
        events = self.watch.poll()
        ended = [event["round"] for event in events if event["kind"] == "round_finished"]
        poor = [e for e in events if e["kind"] == "round_finished" and e["accepted"] < (e["quorum"] or 0)]
        summed = Counter((e["client_id"], e["round"]) for e in events if e["kind"] == "client_finished")
        left_out = max(ended, default=0) - len(set(ended))
        twice = len(ended) - len(set(ended)) + sum(count - 1 for count in summed.values())
        tasks = {(e["client_id"], e["task_id"]) for e in events if e["kind"] == "client_finished"}
        return Losses(taken_back + left_out + len(poor), twice, self._ledger_under(tasks))

    def _ledger_under(self, summed: AbstractSet[tuple[str, str]]) -> int:
        under = 0
        for person in PEOPLE:
            ledger = Ledger(self._federation.home(person) / "ledger.sqlite")
            try:
                ledger.verify()
                reserved = {entry.task_id for entry in ledger.history(person) if entry.kind == "reserve"}
            finally:
                ledger.close()
            under += len({task_id for client, task_id in summed if client == person} - reserved)
        return under


def survive(
    federation: LocalFleet,
    schedule: Sequence[tuple[str, str]],
    seed: int,
    say: Callable[[str], None],
    keep: Callable[[FaultOutcome], None],
    pass_lost_time: Callable[[float], None] = time.sleep,
) -> list[float]:
    """Bring a federation up and let each fault of ``schedule`` happen to a run; gives seconds of undisturbed rounds.

    Args:
        federation: where, and what is run.
        schedule: names of faults in their order, each with its phase.
        seed: of the phases, and of whose board it is.
        say: takes one line a step.
        keep: takes each outcome as soon as it is known.
        pass_lost_time: how the time of a lost server passes.

    Raises:
        StonecropError: the federation does not come up.
    """
    draw = random.Random(seed)
    faults: Mapping[str, Harm] = {**KILLS, **OTHERS}
    with federation_up(federation, say) as live:
        home = ServerHome.open(federation.server)
        run = Run(federation, want_run(home, load_config(federation.config, federation.overrides), overwrite=False))
        scene = FleetScene(live, run.watch, draw, pass_lost_time)
        scene.wait(lambda: len(run.full_rounds()) >= UNDISTURBED, "undisturbed rounds", RECOVERY_S)
        undisturbed = [float(event["seconds"]) for event in run.full_rounds()]
        for name, phase in schedule:
            outcome = _one(run, scene, name, faults[name], phase, statistics.median(undisturbed))
            keep(outcome)
            took = "did not recover" if outcome.recovery_s is None else f"recovered in {outcome.recovery_s:.1f} s"
            say(f"{name}, {phase or 'any moment'}, {outcome.phase_s:.1f} s after the start of a round: {took}")
        stop_run(home)
        return undisturbed


def _one(run: Run, scene: FleetScene, name: str, harm: Harm, phase: str, round_s: float) -> FaultOutcome:
    person = scene.draw.choice(PEOPLE)
    before = run.losses()
    started = len(run.watch.of_kind("round_started"))
    scene.wait(lambda: len(run.watch.of_kind("round_started")) > started, "the next round", RECOVERY_S)
    began = time.monotonic()
    if phase:
        run.wait_for(scene, person, phase)
    else:
        time.sleep(scene.draw.uniform(0, round_s))
    phase_s = time.monotonic() - began
    recovery_s: float | None = None
    try:
        open_round = run.open_round()
        since = harm(scene, person)
        if name in OTHERS:  # what came before the mending says nothing
            open_round = run.open_round()
        scene.wait(lambda: any(e["round"] > open_round for e in run.full_rounds()), "a whole round", RECOVERY_S)
        recovery_s = time.monotonic() - since
    except RoundError as error:
        print(f"{name}: {error}", file=sys.stderr)
    return FaultOutcome(name, person, phase, phase_s, recovery_s, run.losses() - before)


def write_config(folder: Path, rounds: int) -> LocalFleet:
    """What is run: as good as no data, some hundred steps of private training a round."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "run": {"name": "faults", "rounds": rounds},
        "data": {"factory": "round_overhead:data"},
        "model": {"factory": "round_overhead:model"},
        "clients": {"sample_rate": 0.5, "local_steps": 100},
        "privacy": {"epsilon": 8.0},
        "export": {"formats": []},
        "round": {"deadline_s": 90, "min_clients": 2},
    }
    (folder / "faults.yaml").write_text(yaml.safe_dump(config))
    device = {"data": {"factory": "round_overhead:data"}, "factories": ["round_overhead:model"], "threads": 1}
    return LocalFleet(folder / "federation", folder / "faults.yaml", PEOPLE, (), device)


def plan_of(kills: int, only: Sequence[str]) -> list[tuple[str, str]]:
    """The faults of a whole benchmark with their phases: kills in turn, each in one phase after the other, and
    everything else once, at any moment, unless ``only`` says which.

    Raises:
        ConfigError: there is no such fault.
    """
    unknown = [name for name in only if name not in KILLS and name not in OTHERS]
    if unknown:
        raise ConfigError(f"--only: expected some of {', '.join((*KILLS, *OTHERS))}, got {', '.join(unknown)}")
    kinds = schedule_of(kills, list(only) or list(KILLS)) + ([] if only else [(name, "") for name in OTHERS])
    return [(name, "" if name in OTHERS else phase) for name, phase in kinds]


def left_of(plan: Sequence[tuple[str, str]], done: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """What of a plan is still to be done."""
    counts = Counter(done)
    left = []
    for each in plan:
        counts[each] -= 1
        if counts[each] < 0:
            left.append(each)
    return left


def main() -> int:
    """The command; exits with 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--only", action="append", default=[], metavar="FAULT", help="this one; may be repeated")
    parser.add_argument("--folder", type=Path, default=Path("runs/faults"))
    parser.add_argument("--lost-hours", type=int, default=0, help="of the wall clock, while the server is lost")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--markdown", action="store_true")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # everything is taken down then, too
    os.environ["PYTHONPATH"] = os.pathsep.join((str(Path(__file__).parent), *filter(None, sys.path)))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    folder = given.folder.resolve()
    with errors_as_lines("interrupted; everything was taken down, and the same command goes on"):
        outcomes = read_outcomes(folder)
        schedule = left_of(plan_of(given.kills, given.only), [(each.fault, each.phase) for each in outcomes])
        federation = write_config(folder, rounds=50 + 20 * len(schedule))

        def keep(outcome: FaultOutcome) -> None:
            outcomes.append(outcome)
            keep_outcome(folder, outcome)

        def say(line: str) -> None:
            print(line, file=sys.stderr)

        pass_lost_time: Callable[[float], None] = time.sleep
        if given.lost_hours:
            pass_lost_time = partial(LaterClock(folder).pass_time, hours=given.lost_hours)
        seed = given.seed + len(outcomes)
        undisturbed = survive(federation, schedule, seed, say, keep, pass_lost_time) if schedule else []
    show(tables_of(outcomes, undisturbed), given.markdown)
    broken = any(each.recovery_s is None or any(asdict(each.losses).values()) for each in outcomes)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
