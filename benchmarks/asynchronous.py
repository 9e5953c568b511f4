"""Asynchronous against synchronous rounds: the time to the same accuracy, where one of 8 clients is 6 times slower.

    python benchmarks/asynchronous.py --seeds 1

MNIST dealt by Dirichlet(0.3); a task takes 10 s, on the slow client 60 s, on a virtual clock. The synchronous rows are
FedAvg that waits for everyone and FedAvg that drops the slow one at a deadline; the asynchronous one is FedBuff. Every
row gets about the same virtual time, not the same number of rounds. Time to a target is that of the first round from
which on the accuracy stays there; a ratio above 1 is a synchronous run that took longer.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

from experiments import Experiment, experiment, run_all
from printing import Figures, as_points, show
from rich.console import Console

from fl_core.config.schema import StrategySection
from fl_core.runlog import read_events
from fl_server.report import series

TARGETS = (0.80, 0.85, 0.90)
SYNCHRONOUS = "FedAvg, waits for all"
ROWS: Mapping[str, tuple[StrategySection, tuple[str, ...]]] = {
    SYNCHRONOUS: (StrategySection("fedavg"), ("run.rounds=8",)),
    "FedAvg, deadline 20 s": (StrategySection("fedavg"), ("run.rounds=24", "round.deadline_s=20")),
    "FedBuff, buffer 4": (StrategySection("fedbuff", args={"buffer_size": 4}), ("run.rounds=70",)),
}
"""Strategy and overrides; the rounds are those of about 480 virtual seconds."""


@dataclass(frozen=True)
class Line:
    """Accuracy of one run over virtual time: (seconds, share) of each round, in order."""

    points: tuple[tuple[float, float], ...]

    def reaches(self, target: float) -> float | None:
        """Virtual seconds until the accuracy is at the target and stays there; None where it never does."""
        found = None
        for at_s, accuracy in reversed(self.points):
            if accuracy < target:
                break
            found = at_s
        return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="runs at a time")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-asynchronous"))
    parser.add_argument("--markdown", action="store_true", help="print a table that can be pasted into a text")
    args = parser.parse_args()
    seeds = range(1, args.seeds + 1)
    runs = {(row, seed): planned(row, seed) for row in ROWS for seed in seeds}
    run_all(list(runs.values()), args.out, args.workers, Console(stderr=True))
    lines = {key: read_line(each, args.out) for key, each in runs.items()}
    show([figures(lines, seeds)], args.markdown)


def planned(row: str, seed: int) -> Experiment:
    """One run of a row, without artefacts."""
    strategy, overrides = ROWS[row]
    each = experiment(slug(row), "mnist_async.yaml", [*overrides, "export.formats=[]"], seed)
    return replace(each, config=replace(each.config, strategy=strategy))


def slug(row: str) -> str:
    """A row's folder."""
    return row.lower().replace(",", "").replace(" ", "-")


def read_line(each: Experiment, out: Path) -> Line:
    """What the events of a finished run say."""
    events = list(read_events(each.folder(out)))
    at_s = {event["round"]: float(event["virtual_s"]) for event in series.of_kind(events, "round_timed")}
    rounds = series.of_kind(events, "round_finished")
    return Line(tuple((at_s[event["round"]], float(event["evaluation"]["accuracy_float"])) for event in rounds))


def figures(lines: Mapping[tuple[str, int], Line], seeds: Sequence[int]) -> Figures:
    """One row a kind of run: final accuracy, seconds to each target, and how often quicker than synchronous."""
    rows = []
    for row in ROWS:
        cells = [row, as_points([lines[row, seed].points[-1][1] for seed in seeds])]
        for target in TARGETS:
            own = [lines[row, seed].reaches(target) for seed in seeds]
            theirs = [lines[SYNCHRONOUS, seed].reaches(target) for seed in seeds]
            pairs = [(a, b) for a, b in zip(own, theirs, strict=True) if a is not None and b is not None]
            if len(pairs) < len(own):
                cells.append(f"reached by {sum(a is not None for a in own)} of {len(own)}")
                continue
            ratios = [b / a for a, b in pairs]
            cells.append(
                f"{mean(a for a, _ in pairs):.0f} s, {mean(ratios):.1f}x ({min(ratios):.1f}-{max(ratios):.1f})"
            )
        rows.append(tuple(cells))
    columns = ("8 clients, one 6 times slower", "accuracy at the end", *(f"to {t:.0%}" for t in TARGETS))
    notes = ("virtual seconds, and how many times as long the synchronous run took: mean and range over the seeds",)
    return Figures("Time to the same accuracy", columns, tuple(rows), notes)


if __name__ == "__main__":
    main()
