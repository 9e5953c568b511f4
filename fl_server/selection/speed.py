"""By deadline and measured speed: nobody is asked who would not be done in time, after FedCS (arXiv 1804.08333).

The server measures how long each client took. Clients that fit ``deadline_s`` are drawn uniformly, those that were
never measured among them; when they are too few, the quickest of the others fill up. With ``explore`` above 0 that
share of the places is drawn from everyone, so that a client that was slow once gets another chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fl_server.selection.base import Candidate, Selection
from fl_server.selection.uniform import Uniform


@dataclass(frozen=True)
class BySpeed(Selection):
    """Uniform among those who are quick enough."""

    deadline_s: float
    explore: float = 0.1

    def __post_init__(self) -> None:
        if not self.deadline_s > 0:
            raise ValueError(f"clients.selection.args.deadline_s: expected above 0, got {self.deadline_s}")
        if not 0 <= self.explore <= 1:
            raise ValueError(f"clients.selection.args.explore: expected 0 to 1, got {self.explore}")

    def choose(
        self, candidates: Sequence[Candidate], wanted: int, round: int, draw: np.random.Generator
    ) -> list[Candidate]:
        """Candidates drawn by how quickly they answer."""
        wanted = min(wanted, len(candidates))
        anyone = Uniform().choose(candidates, int(draw.binomial(wanted, self.explore)), round, draw)
        others = [each for each in candidates if each not in anyone]
        quick = [each for each in others if each.seen.seconds is None or each.seen.seconds <= self.deadline_s]
        chosen = anyone + Uniform().choose(quick, wanted - len(anyone), round, draw)
        slow = sorted(
            (each for each in others if each not in quick), key=lambda each: (each.seen.seconds, each.client_id)
        )
        chosen += slow[: wanted - len(chosen)]
        return sorted(chosen, key=lambda each: each.client_id)
