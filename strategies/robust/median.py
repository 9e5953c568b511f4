"""Coordinate-wise median, Yin et al. 2018, arXiv 1803.01498.

    delta[d] = median over k of delta_k[d]

With an even number of clients it is the mean of the two in the middle. Each coordinate lies between values of honest
clients as long as they are the majority.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strategies.robust.rule import Matrix, RobustRule, RoundFacts


@dataclass(frozen=True, kw_only=True)
class CoordinateMedian(RobustRule):
    """The median of every coordinate; withstands any minority."""

    def aggregate(self, rows_ND: Matrix, facts: RoundFacts) -> Matrix | None:
        """One vector [D]: the median of each column."""
        middle_D: Matrix = np.median(rows_ND, axis=0)
        return middle_D
