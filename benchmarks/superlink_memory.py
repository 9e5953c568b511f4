"""Shows that a SuperLink's memory does not grow with rounds: a model of 10 MB, three nodes, twenty rounds.

    python benchmarks/superlink_memory.py --rounds 20

Server and gateway are real; nodes make a SuperNode's calls and answer with updates as large as the model. Prints the
SuperLink's PSS and the size of its database after each round. Exits with 1 where it grows: where the later half of the
rounds weighs a tenth more than the earlier half, or any round more than forty models above an idle SuperLink. That is
what is in flight: three updates at a time, each in several copies between TLS and SQLite.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml
from harm import Watch
from printing import Figures, show
from server_scene import MB, Scene, Weight, python_path, scene
from torch import nn

from fl_core.command import errors_as_lines
from fl_core.config import load_config
from fl_core.errors import RoundError
from fl_server.deploy.orders import stop_run, want_run

NODES, HIDDEN = 3, 1575
ROUND_S = 600.0
"""A round that takes longer, the start of the ServerApp included, ends the benchmark."""
MODEL_BYTES = 10_000_000
MOST_GROWTH, MOST_MODELS = 1.1, 40
SETTLED = 8
"""Rounds in which the SuperLink's connections to SQLite fill their caches; they are shown and not compared."""


def model(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """2.5 million parameters, 10 MB as float32."""
    return nn.Sequential(
        nn.Linear(input_shape[0], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs)
    )


def weigh_rounds(here: Scene, config: Path, rounds: int, say: Callable[[str], None]) -> list[Weight]:
    """What the server weighs when the run begins, and after each of its rounds.

    Raises:
        RoundError: a round does not end.
    """
    weights = [here.weigh()]
    watch = Watch(want_run(here.home, load_config(config, ()), overwrite=False))
    newest = time.monotonic()
    while len(weights) <= rounds:
        if len(watch.of_kind("round_finished")) >= len(weights):
            weights.append(here.weigh())
            newest = time.monotonic()
            say(f"round {len(weights) - 1}: SuperLink {weights[-1].superlink / MB:.0f} MB")
        elif time.monotonic() - newest > ROUND_S:
            raise RoundError(f"round {len(weights)}: expected to end within {ROUND_S:g} s")
        time.sleep(0.05)
    stop_run(here.home)
    return weights


def growth_of(weights: Sequence[Weight]) -> float:
    """By which factor the later half of the settled rounds is heavier than the earlier one, by their means."""
    superlink = [each.superlink for each in weights[1 + SETTLED :]]
    half = len(superlink) // 2
    return statistics.mean(superlink[half:]) / statistics.mean(superlink[:half])


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
    rows = tuple(
        (str(number), f"{each.superlink / MB:.0f}", f"{each.server / MB:.0f}", f"{each.database / MB:.0f}")
        for number, each in enumerate(weights)
    )
    growth = growth_of(weights)
    most = max(each.superlink for each in weights)
    models = (most - weights[0].superlink) / MODEL_BYTES
    show(
        [
            Figures(
                f"{NODES} nodes, a model of 10 MB: MB after each round",
                ("round", "SuperLink, PSS", "whole server, PSS", "database"),
                rows,
                (
                    f"SuperLink: at most {most / MB:.0f} MB, {models:.0f} models above idle; "
                    f"later half against earlier half: {growth:.2f}",
                ),
            )
        ],
        given.markdown,
    )
    return 0 if growth <= MOST_GROWTH and models <= MOST_MODELS else 1


if __name__ == "__main__":
    sys.exit(main())
