"""Shows that a SuperLink's memory does not grow with rounds: a model of 10 MB, three nodes, twenty rounds.

    python benchmarks/superlink_memory.py --rounds 20

Server and gateway are real; nodes make a SuperNode's calls and answer with updates as large as the model. Prints for
each round the least and the most of the SuperLink's PSS while it ran, and the size of the database. The most depends on
what is in flight just then: three updates at a time, each in several copies between TLS and SQLite. The least is what
the SuperLink keeps. Exits with 1 where that grows: where it is a fifth more in the later half of the rounds than in the
earlier half, or ten models more than the SuperLink weighed before the first.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from inject.harm import Watch
from shared.printing import Figures, show
from shared.server_scene import MB, ServerScene, Weight, python_path, scene
from torch import nn

from fl_core.config import load_config
from fl_core.errors import RoundError
from fl_core.process.command import errors_as_lines
from fl_core.process.processes import pss_bytes
from fl_server.deploy.operations import stop_run, want_run

NODES, HIDDEN = 3, 1575
ROUND_S = 600.0
"""A round that takes longer, the start of the ServerApp included, ends the benchmark."""
MODEL_BYTES = 10_000_000
MOST_GROWTH, MOST_MODELS = 1.2, 10
SETTLED = 4
"""Rounds in which a SuperLink loads what it needs; they are shown and not compared."""
LOOK_EVERY_S = 0.05


def model(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """2.5 million parameters, 10 MB as float32."""
    return nn.Sequential(
        nn.Linear(input_shape[0], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs)
    )


@dataclass(frozen=True)
class RoundWeight:
    """One round, or the time before the first."""

    least: int
    """Of the SuperLink's PSS in bytes."""
    most: int
    after: Weight


def weigh_rounds(here: ServerScene, config: Path, rounds: int, say: Callable[[str], None]) -> list[RoundWeight]:
    """What the server weighs before the run, and in each of its rounds.

    Raises:
        RoundError: a round does not end.
    """
    before = here.weigh()
    weights = [RoundWeight(before.superlink, before.superlink, before)]
    superlink = here.pids_of_superlink()
    watch = Watch(want_run(here.home, load_config(config, ()), overwrite=False))
    newest, seen = time.monotonic(), list[int]()
    while len(weights) <= rounds:
        seen.append(pss_bytes(superlink))
        if len(watch.of_kind("round_finished")) >= len(weights):
            weights.append(RoundWeight(min(seen), max(seen), here.weigh()))
            newest, seen = time.monotonic(), []
            least, most = weights[-1].least / MB, weights[-1].most / MB
            say(f"round {len(weights) - 1}: SuperLink {least:.0f} to {most:.0f} MB")
        elif time.monotonic() - newest > ROUND_S:
            raise RoundError(f"round {len(weights)}: expected to end within {ROUND_S:g} s")
        time.sleep(LOOK_EVERY_S)
    stop_run(here.home)
    return weights


def growth_of(least: Sequence[int]) -> float:
    """By which factor the later half is heavier than the earlier one, by their means."""
    half = len(least) // 2
    return statistics.mean(least[half:]) / statistics.mean(least[:half])


def models_kept(weights: Sequence[RoundWeight]) -> float:
    """How many models more than before the run a settled SuperLink keeps."""
    return (max(each.least for each in weights[1 + SETTLED :]) - weights[0].least) / MODEL_BYTES


def figures_of(weights: Sequence[RoundWeight], growth: float, models: float) -> Figures:
    """Memory in each round, as a table."""
    rows = tuple(
        (str(number), *(f"{size / MB:.0f}" for size in (each.least, each.most, each.after.server, each.after.database)))
        for number, each in enumerate(weights)
    )
    return Figures(
        f"{NODES} nodes, a model of 10 MB: MB in each round, and at its end",
        ("round", "SuperLink, least PSS", "SuperLink, most PSS", "whole server, PSS", "database"),
        rows,
        (
            f"SuperLink: at most {max(each.most for each in weights) / MB:.0f} MB; keeps {max(0, models):.1f} "
            f"models more than before the run, and in the later half {growth:.2f} of the earlier half",
        ),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=20, help=f"at least {SETTLED + 2}")
    parser.add_argument("--markdown", action="store_true")
    given = parser.parse_args(arguments)
    python_path()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    settings = {
        "run": {"name": "memory", "rounds": given.rounds},
        "data": {"factory": "round_overhead:data"},
        "model": {"factory": "superlink_memory:model"},
        "clients": {"local_steps": 1},
        "export": {"formats": []},
        "round": {"deadline_s": ROUND_S, "quorum": 1.0, "min_clients": NODES},
    }
    with (
        errors_as_lines("interrupted; everything was taken down"),
        tempfile.TemporaryDirectory(prefix="superlink-memory-") as folder,
    ):
        config = Path(folder) / "config.yaml"
        config.write_text(yaml.safe_dump(settings))
        with scene(Path(folder), NODES, 1, say) as here:
            weights = weigh_rounds(here, config, given.rounds, say)
    growth, models = growth_of([each.least for each in weights[1 + SETTLED :]]), models_kept(weights)
    show([figures_of(weights, growth, models)], given.markdown)
    return 0 if growth <= MOST_GROWTH and models <= MOST_MODELS else 1


if __name__ == "__main__":
    sys.exit(main())
