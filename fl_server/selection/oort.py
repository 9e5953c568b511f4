"""Oort (Lai et al. 2021, arXiv 2010.06081): clients whose examples are still hard, and who are quick.

    utility(i) = |B_i| * sqrt(mean squared loss of B_i)           cut at the 95th percentile
               + spread * sqrt(0.1 * ln(round) / last_round_i)    so that nobody is forgotten
    and, where the client takes longer than preferred_s:  * (preferred_s / seconds_i) ** penalty

A share ``explore`` of the places, times 0.98 each round down to ``least_explore``, goes to clients never seen; the
rest is drawn by utility among those with at least ``cutoff`` times the utility of the last that would get in. |B_i| is
the client's size class, which is public. Losses of private examples must not leave a device: refused under DP.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fl_server.selection.base import Candidate, Selection, draw_weighted
from fl_server.selection.uniform import Uniform

_DECAY = 0.98
_LEAST = 1e-9
"""The least utility, so that it can be a weight."""


@dataclass(frozen=True)
class Oort(Selection):
    """Exploit by utility, explore the unseen."""

    preferred_s: float | None = None
    """Seconds of a round that cost nothing; None leaves speed out."""
    penalty: float = 2.0
    explore: float = 0.9
    least_explore: float = 0.2
    cutoff: float = 0.95
    uses_losses: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks = {
            "preferred_s": (self.preferred_s is None or self.preferred_s > 0, "above 0 or null"),
            "penalty": (self.penalty >= 0, "at least 0"),
            "explore": (0 <= self.explore <= 1, "0 to 1"),
            "least_explore": (0 <= self.least_explore <= self.explore, "0 to explore"),
            "cutoff": (0 < self.cutoff <= 1, "above 0, at most 1"),
        }
        for name, (ok, expected) in checks.items():
            if not ok:
                raise ValueError(f"clients.selection.args.{name}: expected {expected}, got {getattr(self, name)}")

    def choose(
        self, candidates: Sequence[Candidate], wanted: int, round: int, draw: np.random.Generator
    ) -> list[Candidate]:
        """Candidates by utility, and unseen ones for a share of the places."""
        wanted = min(wanted, len(candidates))
        known = [each for each in candidates if each.seen.loss is not None]
        unseen = [each for each in candidates if each.seen.loss is None]
        share = max(self.least_explore, self.explore * _DECAY ** (round - 1))
        places = min(len(unseen), max(round_half_up(share * wanted), wanted - len(known)))
        new = Uniform().choose(unseen, places, round, draw)
        best = self._exploit(known, wanted - len(new), round, draw)
        return sorted([*new, *best], key=lambda each: each.client_id)

    def _exploit(
        self, known: Sequence[Candidate], wanted: int, round: int, draw: np.random.Generator
    ) -> list[Candidate]:
        if wanted <= 0 or not known:
            return []
        utilities = self.utilities(known, round)
        last_in = sorted(utilities, reverse=True)[min(wanted, len(known)) - 1]
        kept = [(each, u) for each, u in zip(known, utilities, strict=True) if u >= self.cutoff * last_in]
        return draw_weighted([each for each, _ in kept], [max(u, _LEAST) for _, u in kept], wanted, draw)

    def utilities(self, known: Sequence[Candidate], round: int) -> list[float]:
        """The utility of clients whose loss is known, in their order."""
        hard = np.array([each.info.size_class * (each.seen.loss or 0.0) for each in known])
        hard = np.minimum(hard, np.percentile(hard, 95))
        spread = float(hard.max() - hard.min()) or float(hard.max())
        found = []
        for each, value in zip(known, hard.tolist(), strict=True):
            value += spread * math.sqrt(0.1 * math.log(max(round, 1)) / max(each.seen.last_round, 1))
            seconds = each.seen.seconds
            if self.preferred_s is not None and seconds is not None and seconds > self.preferred_s:
                value *= (self.preferred_s / seconds) ** self.penalty
            found.append(value)
        return found


def round_half_up(value: float) -> int:
    """To the nearest whole number, a half upwards."""
    return math.floor(value + 0.5)
