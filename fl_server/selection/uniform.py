"""Every client is as likely as any other, as in FedAvg (arXiv 1602.05629)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fl_server.selection.base import Candidate, Selection


@dataclass(frozen=True)
class Uniform(Selection):
    """A draw without repetition."""

    def choose(
        self, candidates: Sequence[Candidate], wanted: int, round: int, draw: np.random.Generator
    ) -> list[Candidate]:
        """Candidates drawn without repetition, each as likely as any other."""
        if wanted >= len(candidates):
            return list(candidates)
        return [candidates[row] for row in sorted(draw.choice(len(candidates), wanted, replace=False).tolist())]
