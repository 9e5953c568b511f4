"""A personal model alongside another strategy: one more phase on each client, and all else is the inner strategy's.

The personal model is trained on the client's own examples, without noise whatever the plan says, and never leaves; so
the inner strategy's updates are to the bit what they would be without it. Abstract: Ditto and FineTune say where the
personal phase starts and what pulls at it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from strategies.client import ClientContext, Phase
from strategies.wrapper import PassThrough

if TYPE_CHECKING:
    import torch

    from fl_core.tasks.base import Task


@dataclass(frozen=True, kw_only=True)
class Alongside(PassThrough):
    """The inner strategy, and a personal phase of ``epochs`` passes after its own; None: as the config says."""

    epochs: int | None = None

    def __post_init__(self) -> None:
        if self.epochs is not None and self.epochs < 1:
            raise ValueError(f"strategy.args.epochs: expected at least 1, got {self.epochs}")
        if any(phase.personal for phase in self.inner.phases()):
            who = type(self.inner).__name__
            raise ValueError(f"strategy.args.inner: expected a strategy without a personal phase, got {who}")
        super().__post_init__()

    @abstractmethod
    def personal_phase(self) -> Phase:
        """Where the client's own model starts, and for how long it is trained."""

    @abstractmethod
    def pull(self, params: Mapping[str, torch.Tensor], context: ClientContext) -> Mapping[str, torch.Tensor]:
        """What is added to the gradient of the personal model, by parameter name."""

    def phases(self) -> Sequence[Phase]:
        """The phases of ``inner``, then the personal one."""
        return (*self.inner.phases(), self.personal_phase())

    def example_loss(
        self, task: Task, model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, context: ClientContext
    ) -> torch.Tensor:
        """Loss per example, shape [B]: the task's own in the personal phase, that of ``inner`` in all others."""
        if context.phase.personal:
            return task.example_loss(model(x), y)
        return self.inner.example_loss(task, model, x, y, context)

    def correction(self, params: Mapping[str, torch.Tensor], context: ClientContext) -> Mapping[str, torch.Tensor]:
        """The pull in the personal phase, the correction of ``inner`` in all others; by parameter name."""
        return self.pull(params, context) if context.phase.personal else self.inner.correction(params, context)
