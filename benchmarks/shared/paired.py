"""Statistics over seeds: the spread of a figure, and the paired comparison of two figures of the same seeds.

Intervals are Student's t over the seeds. They say how far a mean over other seeds would lie, not over other data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (of the sample, n - 1) of one figure over seeds."""

    mean: float
    std: float
    """0 where there is one seed only."""
    count: int


@dataclass(frozen=True)
class Difference:
    """first - second over the same seeds: the mean, its two-sided interval, and its one-sided lower bound."""

    mean: float
    low: float
    high: float
    lower_bound: float
    """With the same confidence, the mean difference is not below this."""
    count: int

    def not_worse_by(self, margin: float) -> bool:
        """Whether, at the confidence of the bound, the first is not more than ``margin`` below the second."""
        return self.lower_bound >= -margin - 1e-12  # what float arithmetic may add to an exact tie


def spread(values: Sequence[float]) -> Spread:
    """Mean and standard deviation of ``values``, one a seed.

    Raises:
        ValueError: there are none.
    """
    if not values:
        raise ValueError("spread: expected at least one value, got none")
    mean = math.fsum(values) / len(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    return Spread(mean, math.sqrt(squares / (len(values) - 1)) if len(values) > 1 else 0.0, len(values))


def difference(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> Difference:
    """The paired comparison of two figures: ``first[i]`` and ``second[i]`` come from the same seed.

    Raises:
        ValueError: they are not of one length, or there are fewer than two seeds, which say nothing of a spread.
    """
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(f"difference: expected two or more pairs, got {len(first)} and {len(second)} values")
    found = spread([a - b for a, b in zip(first, second, strict=True)])
    error = found.std / math.sqrt(found.count)
    half = error * float(stats.t.ppf((1 + confidence) / 2, found.count - 1))
    below = error * float(stats.t.ppf(confidence, found.count - 1))
    return Difference(found.mean, found.mean - half, found.mean + half, found.mean - below, found.count)
