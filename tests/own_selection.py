"""A rule of selection as a user would write it, which configs of tests name by its path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fl_server.selection.base import Candidate, Selection


@dataclass(frozen=True)
class Hardest(Selection):
    """Those with the largest losses; whose loss is not known comes first."""

    uses_losses: ClassVar[bool] = True

    def choose(
        self, candidates: Sequence[Candidate], wanted: int, round: int, draw: np.random.Generator
    ) -> list[Candidate]:
        """See ``Selection``."""
        ranked = sorted(candidates, key=lambda each: float("inf") if each.seen.loss is None else each.seen.loss)
        return sorted(ranked[-wanted:], key=lambda each: each.client_id)


@dataclass(frozen=True)
class Nosy(Hardest):
    """One that asks for what no client has."""

    @property
    def asks(self) -> tuple[str, ...]:
        """No part of the table."""
        return ("diary",)
