"""What the runs of a comparison came to: one row a strategy, and its accuracy by round.

A figure over seeds is their mean; where a seed does not have it, or never reached the target, there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from fl_core.runlog import read_events
from fl_server.report import series
from fl_server.watch.accuracy import PREFERRED
from fl_server.watch.state import RunState, state_of
from simulation.compare.run import Cell

TARGET_SHARE = 0.95
"""The target where none is named: this share of the best strategy's final accuracy."""


@dataclass(frozen=True)
class Row:
    """The figures of one strategy, over its seeds; None where a figure does not exist."""

    strategy: str
    seeds: int
    accuracy: float | None
    """At the end: of the artefact, else with fake quantisation, else float."""
    accuracy_spread: float | None
    """Sample standard deviation over the seeds."""
    rounds_to_target: float | None
    bytes_to_target: float | None
    """Up and down, over all clients."""
    worst_client: float | None
    """Lowest final accuracy of any client on its own held-out examples, averaged over the seeds."""
    personal: float | None
    """Mean over the clients of the last score of their own models, for a strategy that gives them some."""


@dataclass(frozen=True)
class Curve:
    """Accuracy by round, of every seed of a strategy."""

    strategy: str
    seeds: tuple[tuple[tuple[int, float], ...], ...]


def read_runs(cells: Sequence[Cell]) -> dict[str, list[RunState]]:
    """The states of finished runs, one a seed, by strategy in the order of the cells.

    Raises:
        RunFolderError: a cell has no readable events.
    """
    found: dict[str, list[RunState]] = {}
    for cell in cells:
        found.setdefault(cell.strategy, []).append(state_of(read_events(cell.folder)))
    return found


def tabulate(runs: Mapping[str, Sequence[RunState]], target: float | None = None) -> tuple[list[Row], float]:
    """The figures of each strategy's runs, best accuracy first, and the target that they are measured against."""
    finals = {name: [_last(accuracies(each)) for each in found] for name, found in runs.items()}
    means = {name: _mean(values) for name, values in finals.items()}
    if target is None:
        target = TARGET_SHARE * max((mean for mean in means.values() if mean is not None), default=0.0)
    rows = [
        Row(
            strategy=name,
            seeds=len(found),
            accuracy=means[name],
            accuracy_spread=_spread(finals[name]),
            rounds_to_target=_mean([rounds_to(each, target) for each in found]),
            bytes_to_target=_mean([bytes_to(each, target) for each in found]),
            worst_client=_mean([_worst(each) for each in found]),
            personal=_mean([_personal(each) for each in found]),
        )
        for name, found in runs.items()
    ]
    return sorted(rows, key=lambda row: -1.0 if row.accuracy is None else row.accuracy, reverse=True), target


def curves(runs: Mapping[str, Sequence[RunState]]) -> list[Curve]:
    """Accuracy by round, in the order of the strategies."""
    return [Curve(name, tuple(tuple(accuracies(each)) for each in found)) for name, found in runs.items()]


def accuracies(state: RunState) -> list[tuple[int, float]]:
    """(round, accuracy) after each round, the untrained model first; of the best form that the whole run has."""
    records = list(state.evaluations())
    for form in PREFERRED:
        points = [(number, float(record[form])) for number, record in records if record.get(form) is not None]
        if points and points[-1][0] == state.rounds_done:
            return points
    return []


def rounds_to(state: RunState, target: float) -> float | None:
    """Rounds until the accuracy was first at least ``target``; None when it never was."""
    return next((float(number) for number, accuracy in accuracies(state) if accuracy >= target), None)


def bytes_to(state: RunState, target: float) -> float | None:
    """Bytes up and down of all clients until the accuracy was first at least ``target``; None when it never was."""
    rounds = rounds_to(state, target)
    if rounds is None:
        return None
    until = [each for each in state.finished_rounds() if each.number <= rounds]
    return float(sum(each.uplink_bytes + each.downlink_bytes for each in until))


def _worst(state: RunState) -> float | None:
    rows = series.client_accuracies(state)
    return rows[0].accuracy if rows else None


def _personal(state: RunState) -> float | None:
    scores = [score for _, score in series.personal_scores(state)]
    return fmean(scores) if scores else None


def _last(points: Sequence[tuple[int, float]]) -> float | None:
    return points[-1][1] if points else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _spread(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return stdev(known) if len(known) > 1 else None
