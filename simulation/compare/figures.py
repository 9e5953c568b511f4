"""What the runs of a comparison came to: one row a strategy, and its accuracy by round.

A figure over seeds is their mean; where a seed does not have it, or never reached the target, there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from statistics import fmean, stdev

from fl_core.runlog import read_events
from fl_server.report import series
from fl_server.watch.accuracy import ACCURACIES
from fl_server.watch.curve import form_of_most
from fl_server.watch.state import RunState, state_of
from fl_server.watch.words import liars_words
from simulation.compare.run import Cell

TARGET_SHARE = 0.95
"""The target where none is named: this share of the best strategy's final accuracy, of a loss so much more."""


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
class Heading:
    """What stands above the table and beside the picture."""

    metric: str
    form: str
    """The form in which the rounds were measured, in words; empty where none was."""
    liars: str
    """How many clients lie in these runs, and how; empty where all are honest."""


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
    form = common_form(runs)
    ends = {name: _mean([_last(accuracies(each, form)) for each in found]) for name, found in runs.items()}
    if target is None:
        best = max((end for end in ends.values() if end is not None), default=0.0)
        target = TARGET_SHARE * best if best > 0 else best / TARGET_SHARE
    rows = [
        Row(
            strategy=name,
            seeds=len(found),
            accuracy=_mean([each.accuracy for each in found]),
            accuracy_spread=_spread([each.accuracy for each in found]),
            rounds_to_target=_mean([rounds_to(each, target, form) for each in found]),
            bytes_to_target=_mean([bytes_to(each, target, form) for each in found]),
            worst_client=_mean([_worst(each) for each in found]),
            personal=_mean([_personal(each) for each in found]),
        )
        for name, found in runs.items()
    ]
    return sorted(rows, key=lambda row: -inf if row.accuracy is None else row.accuracy, reverse=True), target


def curves(runs: Mapping[str, Sequence[RunState]]) -> list[Curve]:
    """Accuracy by round, in the order of the strategies and in the form that all of them have."""
    form = common_form(runs)
    return [Curve(name, tuple(tuple(accuracies(each, form)) for each in found)) for name, found in runs.items()]


def heading(runs: Mapping[str, Sequence[RunState]]) -> Heading:
    """What the runs of a comparison have in common."""
    states = [each for found in runs.values() for each in found]
    metric = next((each.metric for each in states if each.start), "accuracy")
    liars = next((liars_words(each.attack, len(each.start["clients"])) for each in states if each.attack), "")
    return Heading(metric, ACCURACIES.get(common_form(runs) or "", ""), liars)


def common_form(runs: Mapping[str, Sequence[RunState]]) -> str | None:
    """The one form for every curve: that in which most rounds of all runs were measured; None where none was."""
    states = [each for found in runs.values() for each in found]
    return form_of_most(record for each in states for number, record in each.evaluations() if number > 0)


def accuracies(state: RunState, form: str | None) -> list[tuple[int, float]]:
    """(round, accuracy) after each round that was measured in this form, the untrained model first where it was too."""
    if form is None:
        return []
    return [(number, float(record[form])) for number, record in state.evaluations() if record.get(form) is not None]


def rounds_to(state: RunState, target: float, form: str | None) -> float | None:
    """Rounds until the accuracy was first at least ``target``; None when it never was."""
    return next((float(number) for number, accuracy in accuracies(state, form) if accuracy >= target), None)


def bytes_to(state: RunState, target: float, form: str | None) -> float | None:
    """Bytes up and down of all clients until the accuracy was first at least ``target``; None when it never was."""
    rounds = rounds_to(state, target, form)
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
