"""Bulyan, El Mhamdi, Guerraoui and Rouault 2018, arXiv 1802.07927.

    select theta = n - 2f updates: Krum's choice, taken out of the rest, again and again
    delta[d] = mean of the theta - 2f selected values that are nearest to their median

Krum alone lets an attacker hide one large coordinate in a small distance; the second step cuts it. It needs
n >= 4f + 3 updates; with f = 0 any number will do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strategies.robust.krum import krum_scores
from strategies.robust.rule import CountedRule, Matrix, RoundFacts, squared_distances


@dataclass(frozen=True, kw_only=True)
class Bulyan(CountedRule):
    """A trimmed mean around the median of what Krum selects."""

    @classmethod
    def withstands(cls, updates: int) -> int:
        """The most liars f among n updates that are covered: n >= 4f + 3."""
        return max(0, (updates - 3) // 4)

    def withstand(self, rows_ND: Matrix, byzantine: int, facts: RoundFacts) -> Matrix | None:
        """One vector [D]: selection by Krum, then the mean of the values nearest to the median of each column."""
        distances_NN = squared_distances(rows_ND)
        left = list(range(len(rows_ND)))
        selected: list[int] = []
        for _ in range(len(rows_ND) - 2 * byzantine):
            best = int(np.argmin(krum_scores(distances_NN[np.ix_(left, left)], byzantine)))
            selected.append(left.pop(best))
        chosen_TD = np.sort(rows_ND[sorted(selected)], axis=0)
        away_TD = np.abs(chosen_TD - np.median(chosen_TD, axis=0))
        nearest_BD = np.argsort(away_TD, axis=0, kind="stable")[: len(selected) - 2 * byzantine]
        middle_D: Matrix = np.take_along_axis(chosen_TD, nearest_BD, axis=0).mean(axis=0)
        return middle_D
