"""Kills a simulated run with SIGKILL at random moments, resumes it, and compares the end with an undisturbed run.

    python benchmarks/run_kills.py --kills 300

Prints how many kills there were, rounds lost, ledgers that count too little or too much, and final models that differ.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from fl_core.config import Config, load_config, to_yaml
from fl_core.files import write_atomic
from fl_core.privacy.ledger import Ledger
from fl_core.runlog import is_finished
from fl_core.tree import digest
from fl_server.rounds.checkpoint import load_checkpoint
from simulation.preflight import preflight
from simulation.run import resume


@dataclass(frozen=True)
class KillReport:
    """What ``survive_kills`` saw. All but the first two must be 0."""

    kills: int
    runs: int
    rounds_lost: int
    models_differ: int
    ledgers_under: int
    """Ledgers that account for less than the undisturbed run's."""
    ledgers_over: int
    """Ledgers that account for more than one reservation a kill beyond it."""


@dataclass(frozen=True)
class _End:
    bits: tuple[str, ...]
    reservations: dict[str, int]
    epsilon: dict[str, float]


def survive_kills(config: Config, folder: Path, kills: int, seed: int, tick: Callable[[], None]) -> KillReport:
    """Run ``config`` again and again, killing it ``kills`` times in all at moments drawn from ``seed``."""
    import opacus.grad_sample  # noqa: F401  # a child of this process then need not load it again

    preflight(config)  # nor build again what a process builds once
    draw = random.Random(seed)
    started = time.monotonic()
    reference_dir = _new_run(config, folder, 0)
    _in_child(reference_dir, None)
    longest_s = time.monotonic() - started
    reference = _end(reference_dir, config)
    done = runs = lost = differ = under = over = 0
    while done < kills:
        runs += 1
        run_dir = _new_run(config, folder, runs)
        kills_here = rounds_before = 0
        while not is_finished(run_dir):
            wait_s = draw.uniform(0, longest_s) if done < kills else None
            started = time.monotonic()
            if _in_child(run_dir, wait_s):
                done += 1
                kills_here += 1
                tick()
            elif not kills_here:  # a whole run: moments are drawn from how long one takes now, not at the start
                longest_s = time.monotonic() - started
            checkpoint = load_checkpoint(run_dir / "checkpoint")
            rounds_now = checkpoint.rounds_done if checkpoint else 0
            lost += rounds_now < rounds_before
            rounds_before = rounds_now
        end = _end(run_dir, config)
        differ += end.bits != reference.bits
        under += any(end.epsilon[name] < reference.epsilon[name] for name in reference.epsilon)
        over += any(end.reservations[n] > reference.reservations[n] + kills_here for n in reference.reservations)
    return KillReport(done, runs, lost, differ, under, over)


def _new_run(config: Config, folder: Path, number: int) -> Path:
    run_dir = folder / f"run-{number:04d}"
    write_atomic(run_dir / "config.yaml", to_yaml(config).encode())
    return run_dir


def _in_child(run_dir: Path, kill_after_s: float | None) -> bool:
    """Resume the run in a child process; True when it was killed before it ended."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            resume(run_dir)
            code = 0
        finally:
            os._exit(code)
    ends = None if kill_after_s is None else time.monotonic() + kill_after_s
    while True:
        pid, status = os.waitpid(child, 0 if ends is None else os.WNOHANG)
        if pid:
            if os.waitstatus_to_exitcode(status) != 0:
                raise RuntimeError(f"{run_dir}: a run that nobody killed ended with {status}")
            return False
        if ends is not None and time.monotonic() >= ends:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return True
        time.sleep(0.002)


def _end(run_dir: Path, config: Config) -> _End:
    checkpoint = load_checkpoint(run_dir / "checkpoint")
    if checkpoint is None or checkpoint.rounds_done != config.run.rounds:
        raise RuntimeError(f"{run_dir}: a finished run without its last checkpoint")
    state = checkpoint.state
    bits = (digest(state.model), *(digest(state.slots[name]) for name in sorted(state.slots)))
    clients = next(iter(_started(run_dir)))["clients"]
    ledger = Ledger(run_dir / "clients" / "ledger.sqlite", simulated=True)
    ledger.verify()
    delta = config.privacy.delta if config.privacy else 1e-5
    counts = {name: sum(entry.kind == "reserve" for entry in ledger.history(name)) for name in clients}
    spent = {name: ledger.spent(name, delta) for name in clients}
    ledger.close()
    return _End(bits, counts, spent)


def _started(run_dir: Path) -> list[dict[str, list[str]]]:
    from fl_core.runlog import read_events

    return [dict(event) for event in read_events(run_dir) if event["kind"] == "run_started"]


def main() -> int:
    """The command; exits with 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--config", default="configs/quickstart.yaml")
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    config = load_config(options.config, [f"run.rounds={options.rounds}", "run.companion=null"])
    config = replace(config, strategy=replace(config.strategy, name="fedavgm", args={}))
    with tempfile.TemporaryDirectory() as folder, Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("kills", total=options.kills)
        report = survive_kills(config, Path(folder), options.kills, options.seed, lambda: progress.advance(bar))
    print(report)
    broken = report.rounds_lost + report.models_differ + report.ledgers_under + report.ledgers_over
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
