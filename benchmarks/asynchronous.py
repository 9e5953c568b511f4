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

from rich.console import Console
from shared.experiments import Experiment, experiment, run_all
from shared.printing import Figures, as_points, show

from fl_core.config.schema import StrategySection
from fl_core.runlog import read_events
from fl_server.report.timeline import accuracy_over_time
from fl_server.watch.state import state_of

TARGETS = (0.80, 0.85, 0.90)
SYNCHRONOUS = "FedAvg, waits for all"
ROWS: Mapping[str, tuple[StrategySection, tuple[str, ...]]] = {
    SYNCHRONOUS: (StrategySection("fedavg"), ("run.rounds=8",)),
    "FedAvg, deadline 25 s": (StrategySection("fedavg"), ("run.rounds=19", "round.deadline_s=25")),
    "FedBuff, buffer 4": (StrategySection("fedbuff", args={"buffer_size": 4}), ("run.rounds=70",)),
}
"""Strategy and overrides; the rounds are those of about 480 virtual seconds."""


@dataclass(frozen=True)
class TimeToAccuracy:
    """Accuracy of one run over time: (seconds, share) of each round, in order."""

    points: tuple[tuple[float, float], ...]

    def reaches(self, target: float) -> float | None:
        """Seconds until the accuracy is at the target and stays there; None where it never does."""
        found = None
        for at_s, accuracy in reversed(self.points):
            if accuracy < target:
                break
            found = at_s
        return found

    def until(self, end_s: float) -> TimeToAccuracy:
        """The part up to ``end_s``: a run goes on while it is being stopped."""
        return TimeToAccuracy(tuple(point for point in self.points if point[0] <= end_s))


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
    lines = {key: read_line(each.folder(args.out)) for key, each in runs.items()}
    show([figures(lines, "virtual")], args.markdown)


def planned(row: str, seed: int) -> Experiment:
    """One run of a row, without artefacts."""
    strategy, overrides = ROWS[row]
    each = experiment(slug(row), "mnist_async.yaml", [*overrides, "export.formats=[]"], seed)
    return replace(each, config=replace(each.config, strategy=strategy))


def slug(row: str) -> str:
    """A row's folder."""
    return row.lower().replace(",", "").replace(" ", "-")


def read_line(run_dir: Path) -> TimeToAccuracy:
    """What the events of a run say of its float weights, the untrained model first."""
    return TimeToAccuracy(accuracy_over_time(state_of(read_events(run_dir)))[0].points)


def figures(lines: Mapping[tuple[str, int], TimeToAccuracy], kind: str) -> Figures:
    """One row a kind of run: final accuracy, seconds to each target, and how often quicker than the first kind.

    Args:
        lines: by kind and seed, the synchronous kind first.
        kind: of the seconds, for the note.
    """
    kinds, seeds = list(dict.fromkeys(row for row, _ in lines)), sorted({seed for _, seed in lines})
    rows = []
    for row in kinds:
        last = [lines[row, seed].points[-1][1] for seed in seeds]
        cells = [row, as_points(last) if len(last) > 1 else f"{100 * last[0]:.1f}"]
        for target in TARGETS:
            own = [lines[row, seed].reaches(target) for seed in seeds]
            theirs = [lines[kinds[0], seed].reaches(target) for seed in seeds]
            cells.append(_cell(own, theirs))
        rows.append(tuple(cells))
    columns = ("8 clients, one 6 times slower", "accuracy at the end", *(f"to {t:.0%}" for t in TARGETS))
    notes = (f"{kind} seconds, and how many times as long the synchronous run took{_over(len(seeds))}",)
    return Figures("Time to the same accuracy", columns, tuple(rows), notes)


def _cell(own: Sequence[float | None], theirs: Sequence[float | None]) -> str:
    """Mean seconds and, where both reached the target with every seed, the ratios."""
    reached = [at_s for at_s in own if at_s is not None]
    if len(reached) < len(own):
        return f"reached by {len(reached)} of {len(own)}"
    ratios = [b / a for a, b in zip(reached, theirs, strict=True) if b is not None]
    if len(ratios) < len(own):
        return f"{mean(reached):.0f} s"
    spread = f" ({min(ratios):.1f}-{max(ratios):.1f})" if len(ratios) > 1 else ""
    return f"{mean(reached):.0f} s, {mean(ratios):.1f}x{spread}"


def _over(seeds: int) -> str:
    return f": mean and range over {seeds} seeds" if seeds > 1 else ""


if __name__ == "__main__":
    main()
