"""By availability: who answered when asked is asked more often.

The weight of a client is its share of answered tasks with one answered and one unanswered added to both (Laplace), so
a new client starts at one half and nobody falls to zero. ``power`` 0 is uniform; a large one asks the reliable alone.
A biased choice moves the model towards the clients that are online most: the price of rounds that do not fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fl_server.selection.base import Candidate, Selection, draw_weighted


@dataclass(frozen=True)
class ByAvailability(Selection):
    """Weights ((answered + 1) / (asked + 2)) ** power."""

    power: float = 1.0

    def __post_init__(self) -> None:
        if not self.power >= 0:
            raise ValueError(f"clients.selection.args.power: expected at least 0, got {self.power}")

    def choose(
        self, candidates: Sequence[Candidate], wanted: int, round: int, draw: np.random.Generator
    ) -> list[Candidate]:
        """Candidates drawn by their share of answered tasks."""
        weights = [((each.seen.answered + 1) / (each.seen.asked + 2)) ** self.power for each in candidates]
        return draw_weighted(candidates, weights, wanted, draw)
