"""Geometric median (RFA), Pillutla, Kakade and Harchaoui 2019, arXiv 1912.13445.

    v* = argmin over v of sum_k |delta_k - v|, by the smoothed Weiszfeld iteration

    beta_k <- 1 / max(smoothing, |delta_k - v|);    v <- sum_k beta_k delta_k / sum_k beta_k

The iteration starts at no change, v = 0, and not at the mean: the mean can be moved without bound, and a few steps do
not come back from there. Withstands any minority.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strategies.robust.rule import Matrix, RobustRule, RoundFacts


@dataclass(frozen=True, kw_only=True)
class GeometricMedian(RobustRule):
    """The point whose distances to all updates have the least sum."""

    iterations: int = 16
    smoothing: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.iterations >= 1:
            raise ValueError(f"strategy.args.iterations: expected at least 1, got {self.iterations}")
        if not self.smoothing > 0:
            raise ValueError(f"strategy.args.smoothing: expected above 0, got {self.smoothing}")

    def aggregate(self, rows_ND: Matrix, facts: RoundFacts) -> Matrix | None:
        """One vector [D]: ``iterations`` steps of the smoothed Weiszfeld iteration from zero."""
        centre_D = np.zeros(rows_ND.shape[1])
        for _ in range(self.iterations):
            beta_N = 1.0 / np.maximum(self.smoothing, np.linalg.norm(rows_ND - centre_D, axis=1))
            centre_D = (beta_N[:, None] * rows_ND).sum(axis=0) / beta_N.sum()
        return centre_D
