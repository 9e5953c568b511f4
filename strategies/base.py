"""What a strategy is: what a client does with its loss and gradient, and what the server does with the updates.

Both halves are pure: state in, state out. The state holds everything that a checkpoint must keep, so a strategy
needs no save or load of its own. Nothing here knows Flower.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from fl_core.tree import FixedPointSum
from fl_core.types import ClientUpdate, Tensors

if TYPE_CHECKING:
    import torch

    from fl_core.tasks.base import Task

MODEL_PART = "delta"
"""The part of an update that holds trained minus received weights."""

RANGES_PART = "ranges"
"""The part that holds running activation ranges, [low, high] by activation; only without DP."""
HISTOGRAM_PART = "histogram"
"""The part that holds noisy counts, by activation; the answer to a plan of round 0."""


@dataclass(frozen=True)
class StrategyState:
    """Everything the server half knows. ``sums`` is empty between rounds."""

    model: Tensors
    version: int = 0
    slots: Mapping[str, Tensors] = field(default_factory=dict)
    """Further tensors by name: momentum, second moments, control variates."""
    sums: Mapping[str, FixedPointSum] = field(default_factory=dict)
    """Running sums of the open round, one a part of the updates."""


class Strategy(ABC):
    """An algorithm. Frozen dataclasses with their hyperparameters as fields, each checked when made."""

    needs_all: ClassVar[bool] = False
    """True for an algorithm that must see every update at once; only those keep a list."""

    def example_loss(
        self, task: Task, model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, anchor: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Loss per example, shape [B]: whatever stands here is clipped per example. ``anchor``: the global weights."""
        return task.example_loss(model(x), y)

    def correction(
        self, params: Mapping[str, torch.Tensor], anchor: Mapping[str, torch.Tensor]
    ) -> Mapping[str, torch.Tensor]:
        """What is added to the gradient AFTER clip and noise, by parameter name; nothing by default."""
        return {}

    def init(self, model: Tensors) -> StrategyState:
        """The state before the first round."""
        return StrategyState(model=model)

    def accumulate(self, state: StrategyState, update: ClientUpdate) -> StrategyState:
        """The state with one admitted update added to its running sums, weighted by ``update.weight``."""
        sums = dict(state.sums)
        for name, part in update.parts.items():
            sums[name] = sums.get(name, FixedPointSum()).add(part.tensors, update.weight)
        return replace(state, sums=sums)

    def ready(self, state: StrategyState) -> bool:
        """Whether the round may end before its cohort has answered; a synchronous strategy waits."""
        return False

    def finish(self, state: StrategyState) -> StrategyState:
        """The state after the round: a new model of the next version, and no open sums."""
        if MODEL_PART not in state.sums or state.sums[MODEL_PART].weight == 0:
            return replace(state, version=state.version + 1, sums={})
        moved = self.server_step(state, state.sums[MODEL_PART].mean())
        return replace(moved, version=state.version + 1, sums={})

    @abstractmethod
    def server_step(self, state: StrategyState, mean_delta: Tensors) -> StrategyState:
        """How the mean of the updates moves the model (and the slots)."""
