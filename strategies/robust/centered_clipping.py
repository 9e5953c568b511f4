"""Centered clipping, Karimireddy, He and Jaggi 2020, arXiv 2012.10333.

    v <- v + mean over k of (delta_k - v) * min(1, radius / |delta_k - v|),    ``iterations`` times

v starts at what the rule gave in the round before (the slot ``center_<part>``), so history makes it hard to drift away
unseen: a single client moves a round by at most iterations * radius / n.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from fl_core.tree import zeros_like
from fl_core.types import Tensors
from strategies.base import StrategyState
from strategies.robust.rule import Matrix, RobustRule, RoundFacts, row_of

CENTER_PREFIX = "center_"


@dataclass(frozen=True, kw_only=True)
class CenteredClipping(RobustRule):
    """Updates are pulled to within ``radius`` of the last result before they are averaged."""

    radius: float = 1.0
    """In units of the norm of an update."""
    iterations: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.radius > 0:
            raise ValueError(f"strategy.args.radius: expected above 0, got {self.radius}")
        if not self.iterations >= 1:
            raise ValueError(f"strategy.args.iterations: expected at least 1, got {self.iterations}")

    def init(self, model: Tensors) -> StrategyState:
        """The state of ``inner`` before the first round, and centres at no change."""
        state = self.inner.init(model)
        centres = {CENTER_PREFIX + part: zeros_like(tensors) for part, tensors in self.parts(model).items()}
        return replace(state, slots={**state.slots, **centres})

    def aggregate(self, rows_ND: Matrix, facts: RoundFacts) -> Matrix | None:
        """One vector [D]: ``iterations`` clipped steps from the centre of the last round."""
        before = facts.state.slots[CENTER_PREFIX + facts.part]
        centre_D = row_of({name: before[name] for name in facts.names})
        for _ in range(self.iterations):
            away_ND = rows_ND - centre_D
            far_N = np.linalg.norm(away_ND, axis=1)
            scale_N = self.radius / np.maximum(far_N, self.radius)
            centre_D = centre_D + (scale_N[:, None] * away_ND).mean(axis=0)
        return centre_D

    def server_step(self, state: StrategyState, means: Mapping[str, Tensors]) -> StrategyState:
        """The state of ``inner`` after its step; what the rule gave becomes the next centres."""
        centres = {name: slot for name, slot in state.slots.items() if name.startswith(CENTER_PREFIX)}
        own = {name: slot for name, slot in state.slots.items() if name not in centres}
        stepped = self.inner.server_step(replace(state, slots=own), means)
        moved = {CENTER_PREFIX + part: means[part] for part in means if CENTER_PREFIX + part in centres}
        return replace(stepped, slots={**stepped.slots, **centres, **moved})
