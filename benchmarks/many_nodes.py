"""Two hundred nodes at one SuperLink, a fifth of them coming and going, and two storms in which all lose it at once.

    python benchmarks/many_nodes.py --nodes 200 --minutes 20

Server and gateway are real and run a real config; nodes make a SuperNode's calls through the gateway, with client
certificates, and answer with made-up updates. At any time a fifth of them is away: every minute a quarter of these
comes back and as many others leave without a word. After a third of the time the gateway is killed, after two thirds
the SuperLink. Prints memory, size of the database, requests, errors, lengths of rounds and times of recovery.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from inject.harm import Watch
from shared.printing import Figures, show
from shared.server_scene import MB, ServerScene, Weight, python_path, scene, wait_for

from fl_core.config import load_config
from fl_core.process.command import errors_as_lines
from fl_server.deploy.operations import stop_run, want_run
from fl_server.watch.words import ABSENT

AWAY, SWAPPED = 0.2, 0.25
"""Share of the nodes that is away, and of these that comes back at each change."""
WEIGH_EVERY_S = 5.0
START_S = 600.0
"""How long the first round may take, the start of the ServerApp included."""
RECOVERY_S = 300.0
"""After so long a storm counts as not recovered from; a run that is over waits so long for its last one."""
STORMS: Mapping[str, float] = {"gateway": 1 / 3, "superlink": 2 / 3}
"""What is killed, and after which share of the time."""
ERRORS = ("unreachable", "unavailable", "still_online", "refused")


@dataclass
class Storm:
    """A part of the server that was killed, and what came of it."""

    part: str
    began_s: float
    nodes: set[int]
    """Those that were connected then; one that goes away later is taken out."""
    errors_before: int
    heard_s: float | None = None
    """Seconds until each of these nodes had an answer."""
    round_s: float | None = None
    """Seconds until a round that began after the kill was over."""
    errors: int = 0
    """Calls that failed until every node had an answer."""


@dataclass
class Findings:
    """What a run of nodes has shown."""

    seconds: float = 0.0
    weights: list[Weight] = field(default_factory=list)
    rounds_s: list[float] = field(default_factory=list)
    accepted: list[int] = field(default_factory=list)
    """Updates that each round summed."""
    storms: list[Storm] = field(default_factory=list)
    first_round_bytes: int = 0
    """Size of the database when the first round was over."""
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def recovered(self) -> bool:
        """Whether every storm so far is over."""
        return all(storm.heard_s is not None and storm.round_s is not None for storm in self.storms)


class Churn:
    """A fifth of the nodes is away; those that left first come back first."""

    def __init__(self, table: Any, draw: random.Random) -> None:
        self._table = table
        self._draw = draw
        self._gone: deque[int] = deque()
        self._leave(round(AWAY * len(table)))

    def swap(self) -> None:
        """Some come back, and as many others leave."""
        back = [self._gone.popleft() for _ in range(max(1, round(SWAPPED * len(self._gone))))]
        self._leave(len(back))
        self._table["away"][back] = 0

    def _leave(self, count: int) -> None:
        leaving = self._draw.sample(np.flatnonzero(self._table["away"] == 0).tolist(), count)
        self._table["away"][leaving] = 1
        self._gone.extend(leaving)


def observe(
    here: ServerScene, config: Path, seconds: float, swap_s: float, seed: int, say: Callable[[str], None]
) -> Findings:
    """Let a run go for so long while nodes come and go and storms come; gives what was seen."""
    found = Findings(weights=[here.weigh()])
    watch = Watch(want_run(here.home, load_config(config, ()), overwrite=False))
    wait_for(lambda: watch.of_kind("round_finished"), START_S, "the first round")
    churn = Churn(here.table, random.Random(seed))
    found.weights.append(here.weigh())
    found.first_round_bytes = found.weights[-1].database
    began, before = time.monotonic(), here.table.copy()
    swap_at, weigh_at = began + swap_s, began + WEIGH_EVERY_S
    to_come = {began + share * seconds: part for part, share in STORMS.items()}
    ends = began + seconds
    while (now := time.monotonic()) < ends or (now < ends + RECOVERY_S and not found.recovered):
        if now >= swap_at:
            churn.swap()
            swap_at += swap_s
        if now >= weigh_at:
            found.weights.append(here.weigh())
            weigh_at = now + WEIGH_EVERY_S
        for at in [at for at in to_come if at <= now]:
            part = to_come.pop(at)
            connected, errors = here.connected(), _errors(here.table)
            found.storms.append(Storm(part, here.kill(part), connected, errors))
            say(f"{now - began:.0f} s: the {part} was killed")
        _follow(found, here, watch, say)
        time.sleep(0.1)
    found.seconds = time.monotonic() - began
    found.weights.append(here.weigh())
    found.rounds_s = [float(event["seconds"]) for event in watch.of_kind("round_finished")]
    found.accepted = [int(event["accepted"]) for event in watch.of_kind("round_finished")]
    found.counts = {name: int(np.sum(here.table[name] - before[name])) for name in ("requests", "tasks", *ERRORS)}
    stop_run(here.home)
    return found


def _follow(found: Findings, here: ServerScene, watch: Watch, say: Callable[[str], None]) -> None:
    done = watch.of_kind("round_finished")
    for storm in found.storms:
        since_s = time.monotonic() - storm.began_s
        storm.nodes -= here.away()
        if storm.heard_s is None and storm.nodes <= here.heard_since(storm.began_s):
            storm.heard_s, storm.errors = since_s, _errors(here.table) - storm.errors_before
            say(f"every node was heard again after {since_s:.1f} s")
        wall_began = time.time() - since_s
        if storm.round_s is None and any(event["time"] - event["seconds"] > wall_began for event in done):
            storm.round_s = since_s


def _errors(table: Any) -> int:
    return sum(int(np.sum(table[name])) for name in ERRORS)


def table_of(found: Findings, nodes: int) -> list[Figures]:
    """The findings for people."""
    first, last = found.weights[0], found.weights[-1]
    peak = Weight(*(max(getattr(each, name) for each in found.weights) for name in Weight.__dataclass_fields__))
    rounds = len(found.rounds_s)
    cpu_s = sum(max(0.0, b.superlink_cpu_s - a.superlink_cpu_s) for a, b in itertools.pairwise(found.weights[1:]))
    growth = (last.database - found.first_round_bytes) / max(1, rounds - 1)
    weights = [
        (name, *(f"{getattr(each, key) / MB:.0f}" for each in (first, peak, last)))
        for name, key in (("SuperLink, PSS", "superlink"), ("whole server, PSS", "server"), ("database", "database"))
    ]
    p99 = f"{np.quantile(found.rounds_s, 0.99):.1f}" if rounds else ABSENT
    median = f"{statistics.median(found.rounds_s):.1f}" if rounds else ABSENT
    figures = [
        ("rounds", str(rounds)),
        ("a round, median s", median),
        ("a round, p99 s", p99),
        ("updates summed in a round, mean", f"{statistics.mean(found.accepted):.1f}" if rounds else ABSENT),
        ("answered requests a second", f"{found.counts['requests'] / found.seconds:.0f}"),
        (
            "SuperLink's computing a node's request, ms, all its work counted",
            f"{1e3 * cpu_s / max(1, found.counts['requests']):.1f}",
        ),
        ("database growth a round, kB", f"{growth / 1e3:.1f}"),
        *((f"calls: {name.replace('_', ' ')}", str(found.counts[name])) for name in ERRORS),
    ]
    storms = [
        (storm.part, *(ABSENT if s is None else f"{s:.1f}" for s in (storm.heard_s, storm.round_s)), str(storm.errors))
        for storm in found.storms
    ]
    title = f"{nodes} nodes, a fifth away at any time, {found.seconds / 60:.0f} min"
    return [
        Figures(f"{title}: MB", ("", "start", "most", "end"), tuple(weights)),
        Figures(title, ("", ""), tuple(figures)),
        Figures(
            "Killed: seconds until every node had an answer, and until a round that began afterwards was over",
            ("part", "every node", "a round", "failed calls"),
            tuple(storms),
        ),
    ]


def write_config(path: Path, nodes: int) -> None:
    """What is run: a model of ten numbers, a tenth of the nodes a round and half as many more asked for it."""
    config = {
        "run": {"name": "many-nodes", "rounds": 1_000_000},
        "data": {"factory": "round_overhead:data"},
        "model": {"factory": "round_overhead:model"},
        "clients": {"per_round": max(2, nodes // 10), "over_select": 1.5, "local_steps": 1},
        "export": {"formats": []},
        "round": {"deadline_s": 60, "quorum": 0.5},
    }
    path.write_text(yaml.safe_dump(config))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exits with 1 where a storm was not recovered from or no round was finished."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--swap-s", type=float, default=60.0, help="between two changes of who is away")
    parser.add_argument("--processes", type=int, default=2, help="that the nodes are spread over")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--markdown", action="store_true")
    given = parser.parse_args(arguments)
    python_path()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with (
        errors_as_lines("interrupted; everything was taken down"),
        tempfile.TemporaryDirectory(prefix="many-nodes-") as folder,
    ):
        config = Path(folder) / "config.yaml"
        write_config(config, given.nodes)
        with scene(Path(folder), given.nodes, given.processes, say) as here:
            found = observe(here, config, 60 * given.minutes, given.swap_s, given.seed, say)
    show(table_of(found, given.nodes), given.markdown)
    return 0 if found.recovered and found.rounds_s else 1


if __name__ == "__main__":
    sys.exit(main())
