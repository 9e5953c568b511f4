"""Nearest-neighbour mixing (NNM), Allouah et al. 2023, arXiv 2302.01772.

    delta_k <- mean of the n - f updates nearest to delta_k, itself among them

A step before a robust rule, which is ``inner``: honest updates of unequal data come closer to each other, and a rule
that takes few of them no longer throws the others' data away. It needs n >= 2f + 1 updates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fl_core.types import ClientUpdate, Tensors
from strategies.base import StrategyState, Trait
from strategies.robust.rule import (
    Matrix,
    check_byzantine,
    refuse_asynchronous,
    rows_of,
    squared_distances,
    tensors_of,
)
from strategies.wrapper import Wrapper, means_of


@dataclass(frozen=True, kw_only=True)
class NearestNeighbourMixing(Wrapper):
    """Every update becomes the mean of its neighbourhood, and ``inner`` combines those; each weighs the same."""

    needs_all: ClassVar[bool] = True
    traits: ClassVar[frozenset[Trait]] = frozenset({"robust"})
    byzantine: int | None = None
    """Liars to withstand; None takes the largest minority."""

    def __post_init__(self) -> None:
        check_byzantine(self.byzantine)
        refuse_asynchronous(self.inner)
        super().__post_init__()

    @classmethod
    def withstands(cls, updates: int) -> int:
        """The most liars f among n updates that are covered: n >= 2f + 1."""
        return (updates - 1) // 2

    @property
    def least_updates(self) -> int:
        """The fewest updates with which a round moves: 2f + 1, or what ``inner`` needs."""
        return max(2 * (self.byzantine or 0) + 1, self.inner.least_updates)

    def combine(self, state: StrategyState, updates: Sequence[ClientUpdate]) -> Mapping[str, Tensors]:
        """What the inner strategy makes of the mixed updates; nothing for too few."""
        if len(updates) < self.least_updates:
            return {}
        byzantine = self.withstands(len(updates)) if self.byzantine is None else self.byzantine
        mixed = [replace(update, weight=1) for update in updates]
        for name in sorted(updates[0].parts):
            rows_ND = mix(rows_of(updates, name), byzantine)
            for at, update in enumerate(mixed):
                part = update.parts[name]
                own = replace(part, tensors=tensors_of(rows_ND[at], part.tensors))
                mixed[at] = replace(update, parts={**update.parts, name: own})
        return means_of(self.inner, state, mixed)


def mix(rows_ND: Matrix, byzantine: int) -> Matrix:
    """[N, D]: each row replaced by the mean of the n - f rows nearest to it; of equal distances the earlier row."""
    near_NK = np.argsort(squared_distances(rows_ND), axis=1, kind="stable")[:, : len(rows_ND) - byzantine]
    return np.stack([rows_ND[np.sort(near_K)].mean(axis=0) for near_K in near_NK])
