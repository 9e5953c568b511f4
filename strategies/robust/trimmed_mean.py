"""Coordinate-wise trimmed mean, Yin et al. 2018, arXiv 1803.01498.

    delta[d] = mean of delta_k[d] without the f largest and the f smallest

It needs n >= 2f + 1 updates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strategies.robust.rule import CountedRule, Matrix, RoundFacts


@dataclass(frozen=True, kw_only=True)
class TrimmedMean(CountedRule):
    """The mean of every coordinate without ``byzantine`` values at either end."""

    @classmethod
    def withstands(cls, updates: int) -> int:
        """The most liars f among n updates that are covered: n >= 2f + 1."""
        return (updates - 1) // 2

    def withstand(self, rows_ND: Matrix, byzantine: int, facts: RoundFacts) -> Matrix | None:
        """One vector [D]: the mean of each column without its ends."""
        middle_MD = np.sort(rows_ND, axis=0)[byzantine : len(rows_ND) - byzantine]
        mean_D: Matrix = middle_MD.mean(axis=0)
        return mean_D
