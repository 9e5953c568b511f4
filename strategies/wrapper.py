"""A strategy around another: what it does not decide itself is decided by the one inside, its ``inner``.

A ``Wrapper`` leaves to ``inner`` the client's half, the state before the first round, what is broadcast, what an update
must hold and the step of the server. So a wrapper that changes how updates become a mean composes with every algorithm
of the clients and with every server optimiser, and overrides none. A ``PassThrough`` leaves it the sum of the updates
too: it changes the clients' half, or the updates before they are summed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fl_core.types import ClientUpdate, Tensors
from strategies.base import Strategy, StrategyState
from strategies.client import ClientContext, LocalOutcome, Phase
from strategies.fedavg import FedAvg

if TYPE_CHECKING:
    import torch

    from fl_core.tasks.base import Task


@dataclass(frozen=True, kw_only=True)
class Wrapper(Strategy):
    """A strategy whose behaviour is that of ``inner``, but for how updates become means.

    Raises:
        ValueError: ``inner`` adds noise for whole clients, which must be the outermost.
    """

    inner: Strategy = field(default_factory=FedAvg)

    def __post_init__(self) -> None:
        if "central_dp" in self.inner.traits:
            raise ValueError(
                f"strategy.args.inner: expected a strategy without noise for whole clients, which goes around all "
                f"others, got {type(self.inner).__name__} inside {type(self).__name__}"
            )
        # What the inner one is not allowed, the whole is not allowed.
        object.__setattr__(self, "traits", type(self).traits | self.inner.traits)

    @property
    def least_updates(self) -> int:
        """The fewest updates with which a round of ``inner`` moves the model."""
        return self.inner.least_updates

    def phases(self) -> Sequence[Phase]:
        """The stretches of local training that ``inner`` asks for, in order."""
        return self.inner.phases()

    def stays_home(self, names: Sequence[str]) -> frozenset[str]:
        """Which of the trainable tensors ``inner`` keeps with their client."""
        return self.inner.stays_home(names)

    def example_loss(
        self, task: Task, model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, context: ClientContext
    ) -> torch.Tensor:
        """Loss per example, shape [B], as ``inner`` defines it."""
        return self.inner.example_loss(task, model, x, y, context)

    def correction(self, params: Mapping[str, torch.Tensor], context: ClientContext) -> Mapping[str, torch.Tensor]:
        """What ``inner`` adds to the gradient after clip and noise, by parameter name."""
        return self.inner.correction(params, context)

    def conclude(self, outcome: LocalOutcome) -> tuple[Mapping[str, Tensors], Mapping[str, Tensors]]:
        """The parts of the update and the memory of the client, as ``inner`` makes them."""
        return self.inner.conclude(outcome)

    def init(self, model: Tensors) -> StrategyState:
        """The state of ``inner`` before the first round."""
        return self.inner.init(model)

    def broadcast(self, state: StrategyState) -> Mapping[str, Tensors]:
        """What ``inner`` sends to every client with the model, by slot."""
        return self.inner.broadcast(state)

    def parts(self, model: Tensors) -> Mapping[str, Tensors]:
        """The tensors of each part that a client of ``inner`` sends."""
        return self.inner.parts(model)

    def server_step(self, state: StrategyState, means: Mapping[str, Tensors]) -> StrategyState:
        """The state of ``inner`` after its step with the means of the round."""
        return self.inner.server_step(state, means)


@dataclass(frozen=True, kw_only=True)
class PassThrough(Wrapper):
    """A wrapper whose ``inner`` also sums the updates and ends the round; a list is kept only where it keeps one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "needs_all", self.inner.needs_all)

    def accumulate(self, state: StrategyState, update: ClientUpdate) -> StrategyState:
        """The state of ``inner`` with one more update added."""
        return self.inner.accumulate(state, update)

    def ready(self, state: StrategyState) -> bool:
        """Whether ``inner`` would end the round before its cohort has answered."""
        return self.inner.ready(state)

    def combine(self, state: StrategyState, updates: Sequence[ClientUpdate]) -> Mapping[str, Tensors]:
        """What ``inner`` makes of the updates of a round, one value a part."""
        return self.inner.combine(state, updates)

    def finish(self, state: StrategyState) -> StrategyState:
        """The state of ``inner`` after the round."""
        return self.inner.finish(state)


def sums_plainly(strategy: Strategy) -> bool:
    """Whether updates become means as ``Strategy`` itself makes them: weighted running sums, however it is wrapped."""
    kind = type(strategy)
    own = (kind.accumulate, kind.finish, kind.ready)
    if isinstance(strategy, PassThrough) and own == (
        PassThrough.accumulate,
        PassThrough.finish,
        PassThrough.ready,
    ):
        return sums_plainly(strategy.inner)
    return not strategy.needs_all and own == (Strategy.accumulate, Strategy.finish, Strategy.ready)


def means_of(strategy: Strategy, state: StrategyState, updates: Sequence[ClientUpdate]) -> Mapping[str, Tensors]:
    """What ``strategy`` makes of updates that are sorted by client_id: one value a part, nothing for no updates."""
    if strategy.needs_all:
        return strategy.combine(state, updates) if updates else {}
    opened = replace(state, sums={}, updates=())
    for update in updates:
        opened = strategy.accumulate(opened, update)
    return {name: total.mean() for name, total in opened.sums.items() if total.weight > 0}
