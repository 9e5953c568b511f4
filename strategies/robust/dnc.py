"""Divide and conquer (DnC), Shejwalkar and Houmansadr, NDSS 2021, doi 10.14722/ndss.2021.24498.

    repeat: take ``coordinates`` at random, centre them, find their leading singular direction,
            and call good the updates without the ``filtering`` * f largest projections on it
    delta = mean of the updates that every repetition called good

Attackers who agree must pull in one direction, and that is where the spectrum shows them. The coordinates are drawn
from ``seed`` and the version of the model: the run repeats to the bit, and who knows the seed knows the coordinates.
No step where no update is good in every repetition.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fl_core.rng import generator
from strategies.robust.rule import CountedRule, Matrix, RoundFacts


@dataclass(frozen=True, kw_only=True)
class DivideAndConquer(CountedRule):
    """Spectral filtering of updates; needs n >= 2f + 1 of them."""

    repetitions: int = 3
    coordinates: int = 10_000
    filtering: float = 1.0
    """Updates dropped in a repetition, in units of f."""
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("repetitions", "coordinates"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"strategy.args.{name}: expected at least 1, got {getattr(self, name)}")
        if not self.filtering > 0:
            raise ValueError(f"strategy.args.filtering: expected above 0, got {self.filtering}")

    @classmethod
    def withstands(cls, updates: int) -> int:
        """The most liars f among n updates that are covered: n >= 2f + 1."""
        return (updates - 1) // 2

    def withstand(self, rows_ND: Matrix, byzantine: int, facts: RoundFacts) -> Matrix | None:
        """One vector [D]: the mean of the rows that survive every repetition; None where none does."""
        kept = max(len(rows_ND) - int(self.filtering * byzantine), 1)
        good_N = np.ones(len(rows_ND), dtype=bool)
        for repetition in range(self.repetitions):
            draw = generator("dnc", self.seed, facts.part, facts.state.version, repetition)
            width = rows_ND.shape[1]
            columns = np.sort(draw.choice(width, min(self.coordinates, width), replace=False))
            scores_N = outlier_scores(rows_ND[:, columns])
            good_N[np.argsort(scores_N, kind="stable")[kept:]] = False
        return rows_ND[good_N].mean(axis=0) if good_N.any() else None


def outlier_scores(rows_NB: Matrix) -> Matrix:
    """[N]: squared projections of the centred rows on their leading right singular vector."""
    centred_NB = rows_NB - rows_NB.mean(axis=0)
    left_NN, singular_N, _ = np.linalg.svd(centred_NB, full_matrices=False)
    scores_N: Matrix = np.square(left_NN[:, 0] * singular_N[0])
    return scores_N
