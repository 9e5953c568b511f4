"""Krum and Multi-Krum, Blanchard et al. 2017, arXiv 1703.02757.

    score(k) = sum of |delta_k - delta_j|^2 over the n - f - 2 updates j nearest to k

Krum takes the update of the least score, Multi-Krum the mean of the m of least score. Both need n >= 2f + 3 updates;
with f = 0 there is nothing to withstand, and any number will do. Of equal scores the smaller client_id goes first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strategies.robust.rule import CountedRule, Matrix, RoundFacts, squared_distances


@dataclass(frozen=True, kw_only=True)
class Krum(CountedRule):
    """The one update that lies closest to its neighbours. A baseline: it throws all others away."""

    @classmethod
    def withstands(cls, updates: int) -> int:
        """The most liars f among n updates that are covered: n >= 2f + 3."""
        return max(0, (updates - 3) // 2)

    def withstand(self, rows_ND: Matrix, byzantine: int, facts: RoundFacts) -> Matrix | None:
        """One vector [D]: the row of the least score."""
        best: Matrix = rows_ND[np.argmin(krum_scores(squared_distances(rows_ND), byzantine))]
        return best


@dataclass(frozen=True, kw_only=True)
class MultiKrum(CountedRule):
    """The mean of the ``select`` updates of least score; n - f of them where ``select`` is None."""

    select: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.select is not None and not self.select >= 1:
            raise ValueError(f"strategy.args.select: expected at least 1 or null, got {self.select}")

    @classmethod
    def withstands(cls, updates: int) -> int:
        """The most liars f among n updates that are covered: n >= 2f + 3."""
        return max(0, (updates - 3) // 2)

    def withstand(self, rows_ND: Matrix, byzantine: int, facts: RoundFacts) -> Matrix | None:
        """One vector [D]: the mean of the rows of least score, never of more than n - f."""
        honest = len(rows_ND) - byzantine
        taken = honest if self.select is None else min(self.select, honest)
        order_N = np.argsort(krum_scores(squared_distances(rows_ND), byzantine), kind="stable")
        # In the order of the rows: a sum of floats must not depend on how scores happen to be ordered.
        mean_D: Matrix = rows_ND[np.sort(order_N[:taken])].mean(axis=0)
        return mean_D


def krum_scores(distances_NN: Matrix, byzantine: int) -> Matrix:
    """[N]: the sum of squared distances to the n - f - 2 nearest others, and at least to the nearest one."""
    others = len(distances_NN) - 1
    nearest = min(max(others - byzantine - 1, 1), others)
    apart_NN = distances_NN.copy()
    np.fill_diagonal(apart_NN, np.inf)
    scores_N: Matrix = np.sort(apart_NN, axis=1)[:, :nearest].sum(axis=1)
    return scores_N
