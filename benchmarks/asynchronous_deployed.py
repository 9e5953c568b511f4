"""Asynchronous against synchronous rounds of 8 real devices, one of them 6 times slower: the time to the same accuracy.

    python benchmarks/asynchronous_deployed.py

Server, gateway and devices are processes on loopback, with TLS and certificates. Data, model, training and rows are
those of ``asynchronous.py``, which has a virtual clock; here ``slow_trainer.py`` slows a task on purpose to 10 s, on
the slow device to 60 s, and what else a round costs comes on top. Each row is a federation of its own and gets the same
wall time. Its run folder is kept as soon as it is done, so a second call goes on with the rows that are missing.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, median

from asynchronous import ROWS, figures, planned, read_line, slug
from inject.harm import Watch
from shared.experiments import CONFIGS
from shared.printing import Figures, show

from fl_core.config import Config, to_plain
from fl_core.errors import RoundError
from fl_core.process.command import errors_as_lines
from fl_core.runlog import read_events
from fl_server.deploy.home import ServerHome
from fl_server.deploy.operations import stop_run, want_run
from fl_server.watch.state import state_of
from fl_server.watch.words import ABSENT
from simulation.local_fleet import LocalFleet, federation_up

SEED = 1
PEOPLE = tuple(f"client-{number:02d}" for number in range(8))
ROUNDS = 10_000
"""More than any row has time for."""
START_S = 180.0


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=480.0, help="wall time of each row that is not kept yet")
    parser.add_argument("--row", action="append", choices=list(ROWS), help="this one; may be repeated")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark-asynchronous-deployed"))
    parser.add_argument("--markdown", action="store_true", help="print a table that can be pasted into a text")
    given = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join((str(Path(__file__).parent), *filter(None, sys.path)))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    folder = given.folder.resolve()
    rows = given.row or list(ROWS)
    with errors_as_lines("interrupted; everything was taken down, and the same command goes on"):
        for row in rows:
            if not kept(folder, row).exists():
                run_row(folder, row, given.seconds, lambda line: print(line, file=sys.stderr))
        lines = {(row, SEED): read_line(kept(folder, row)).until(given.seconds) for row in rows}
        show([figures(lines, "wall"), shares(folder, rows)], given.markdown)


def kept(folder: Path, row: str) -> Path:
    """The run folder of a row that is done."""
    return folder / slug(row)


def run_row(folder: Path, row: str, seconds: float, say: Callable[[str], None]) -> None:
    """Bring a federation up, give a row its time from the start of its first round, and keep its run folder.

    Raises:
        StonecropError: the federation does not come up, or the run does not start.
    """
    config = deployed(planned(row, SEED).config)
    federation = federation_of(folder, config)
    say(f"{row}: {seconds:g} s")
    with federation_up(federation, say):
        home = ServerHome.open(federation.server)
        run_dir = want_run(home, config, overwrite=False)
        watch, ends = Watch(run_dir), time.monotonic() + START_S
        while not watch.of_kind("round_started"):
            if time.monotonic() > ends:
                raise RoundError(f"{row}: expected its first round within {START_S:g} s")
            time.sleep(0.2)
        time.sleep(seconds)
        stop_run(home)
        say(f"{row}: {len(watch.of_kind('round_finished'))} rounds")
    run_dir.rename(kept(folder, row))


def shares(folder: Path, rows: Sequence[str]) -> Figures:
    """What devices and rounds came to in each row, which tells what a round costs beside the slowed tasks."""
    cells = []
    for row in rows:
        state = state_of(read_events(kept(folder, row)))
        rounds = state.finished_rounds()
        updates = Counter({name: len(client.updates) for name, client in state.clients.items()})
        quick = [updates[person] for person in PEOPLE if person not in planned(row, SEED).config.simulation.clients]
        seconds = f"{median(each.seconds for each in rounds):.1f}" if rounds else ABSENT
        cells.append((row, str(len(rounds)), seconds, f"{mean(quick):.1f}", str(updates.total() - sum(quick))))
    columns = ("updates that were summed", "rounds", "median s a round", "of each quick device", "of the slow one")
    return Figures("What it took", columns, tuple(cells))


def deployed(config: Config) -> Config:
    """A row's config with no end of its own; every round starts with all devices."""
    return replace(
        config,
        run=replace(config.run, rounds=ROUNDS),
        round=replace(config.round, min_clients=len(PEOPLE)),
    )


def federation_of(folder: Path, config: Config) -> LocalFleet:
    """Devices with the data of the config's clients, each with a trainer as slow as that client is on its clock."""
    folder.mkdir(parents=True, exist_ok=True)
    clock, plain = config.simulation, to_plain(config)
    flags = {}
    for person in PEOPLE:
        seconds = clock.clients.get(person, clock.seconds_per_round)
        python = folder / f"python-of-{person}"
        trainer = f"{sys.executable} {Path(__file__).with_name('inject') / 'slow_trainer.py'} {seconds:g}"
        python.write_text(f'#!/bin/sh\nshift 2\nexec {trainer} "$@"\n')
        python.chmod(0o755)
        flags[person] = ("--trainer-python", str(python))
    data = {"name": plain["data"]["name"], "partition": plain["data"]["partition"], "seed": config.run.seed}
    device = {"data": data, "threads": 1}
    return LocalFleet(folder / "federation", CONFIGS / "mnist_async.yaml", PEOPLE, (), device, flags)


if __name__ == "__main__":
    main()
