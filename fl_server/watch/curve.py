"""A run's learning curve: the accuracy after each round in one form, and the last round beside the best and the usual.

A model is measured in three forms, and not each of them after every round: artefacts may be made seldom, or be vetoed.
A curve never mixes them, since a form that was measured once says nothing of the way there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from fl_server.watch.accuracy import PREFERRED, best_accuracy
from fl_server.watch.state import RunState

LAST_ROUNDS = 5
"""Rounds whose median stands beside the last one."""


@dataclass(frozen=True)
class LearningCurve:
    """Accuracy after every round that was measured; there is at least one."""

    form: str
    """The field of the evaluation that it is made of."""
    points: tuple[tuple[int, float], ...]
    """(round, accuracy), the untrained model not among them."""
    initial: float | None
    """Accuracy of the untrained model in its preferred form; None where it was not measured."""
    examples: int
    """On which the last round was measured."""

    @property
    def values(self) -> tuple[float, ...]:
        """The accuracies in the order of their rounds."""
        return tuple(value for _, value in self.points)

    @property
    def last(self) -> float:
        """Accuracy of the newest measured round."""
        return self.points[-1][1]

    @property
    def best(self) -> tuple[int, float]:
        """(round, accuracy) of the best round; of equal ones the first."""
        return max(self.points, key=lambda point: point[1])

    @property
    def newest(self) -> tuple[float, ...]:
        """The last ``LAST_ROUNDS`` accuracies, or as many as there are."""
        return self.values[-LAST_ROUNDS:]

    @property
    def median_last(self) -> float:
        """The median of the last rounds, which no lucky or unlucky round moves."""
        return float(median(self.newest))


def learning_curve(state: RunState) -> LearningCurve | None:
    """The curve in the form that was measured most often; None where no round has been measured."""
    records = [(number, record) for number, record in state.evaluations() if number > 0]
    form = form_of_most(record for _, record in records)
    if form is None:
        return None
    points = tuple((number, float(record[form])) for number, record in records if record.get(form) is not None)
    examples = next((int(record["examples"]) for _, record in reversed(records) if record.get("examples")), 0)
    return LearningCurve(form, points, best_accuracy(state.start.get("initial")), examples)


def form_of_most(records: Iterable[Mapping[str, Any]]) -> str | None:
    """The form that most of these evaluations have, of equals the nearest to what a device runs; None without any."""
    known = list(records)
    counts = {form: sum(record.get(form) is not None for record in known) for form in PREFERRED}
    form = max(PREFERRED, key=lambda form: counts[form])
    return form if counts[form] else None


def sampling_error(share: float, examples: int) -> float:
    """Standard error of a share that was counted on so many examples, those of a binomial draw; 0 without examples."""
    return math.sqrt(max(share * (1 - share), 0.0) / examples) if examples else 0.0
