"""What a strategy is: what a client does with its loss and gradient, and what the server does with the updates.

Both halves are pure: state in, state out. The server's state holds everything that a checkpoint must keep, and a
client's memory is a value that its ledger keeps, so a strategy needs no save or load of its own. Nothing here knows
Flower.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from fl_core.errors import ConfigError
from fl_core.parts import LOSS_PART, PARTS
from fl_core.parts import MODEL_PART as MODEL_PART  # whoever writes a strategy finds it here
from fl_core.tree import FixedPointSum, zeros_like
from fl_core.types import ClientUpdate, Tensors
from strategies.client import SHARED, ClientContext, LocalOutcome, Phase

if TYPE_CHECKING:
    import torch

    from fl_core.tasks.base import Task

Trait = Literal[
    "asynchronous",  # the round ends with a full buffer, not with a cohort
    "robust",  # its sensitivity to one client is not known
    "central_dp",  # noise is added at the server, for whole clients
    "uses_losses",  # clients send losses
    "uses_step_counts",  # clients' own numbers of steps weigh their updates
    "several_phases",  # a shared gradient is taken at weights that another phase trained
]


REFUSED_UNDER_DP: Mapping[Trait, str] = {
    "uses_losses": PARTS[LOSS_PART].refusal_under_dp or "",
    "uses_step_counts": "a client's own number of steps reveals its number of examples",
    "several_phases": "the shared gradient is taken at weights that private examples moved without noise",
}
"""What an algorithm may not do with per-example DP, and why; a device refuses it as well as a server."""


@dataclass(frozen=True)
class StrategyState:
    """Everything the server half knows. ``sums`` and ``updates`` are empty between rounds."""

    model: Tensors
    version: int = 0
    slots: Mapping[str, Tensors] = field(default_factory=dict)
    """Further tensors by name: momentum, second moments, control variates."""
    sums: Mapping[str, FixedPointSum] = field(default_factory=dict)
    """Running sums of the open round, one a part of the updates."""
    updates: tuple[ClientUpdate, ...] = ()
    """The updates of the open round; only where the algorithm ``needs_all``."""

    @property
    def summed(self) -> int:
        """How many updates the open round has so far; a ``server_step`` may ask of how many its means are."""
        total = self.sums.get(MODEL_PART)
        return len(self.updates) if total is None else total.count


class Strategy(ABC):
    """An algorithm. Frozen dataclasses with their hyperparameters as fields, each checked when made.

    A whole one, whose clients are pulled back to the received weights and whose steps get shorter, and one round of it:

    >>> from dataclasses import dataclass, replace
    >>> import numpy as np
    >>> from fl_core.tree import add_scaled
    >>> from fl_core.types import ClientUpdate, Part
    >>> from strategies.base import MODEL_PART, Strategy
    >>> @dataclass(frozen=True)
    ... class Calm(Strategy):
    ...     decay: float = 0.5
    ...     mu: float = 0.01
    ...
    ...     def __post_init__(self):
    ...         if not 0 < self.decay <= 1:
    ...             raise ValueError(f"strategy.args.decay: expected above 0, at most 1, got {self.decay}")
    ...
    ...     def correction(self, params, context):
    ...         return {name: self.mu * (param.detach() - context.anchor[name]) for name, param in params.items()}
    ...
    ...     def server_step(self, state, means):
    ...         return replace(state, model=add_scaled(state.model, means[MODEL_PART], self.decay**state.version))
    >>> strategy = Calm()
    >>> state = strategy.init({"w": np.zeros(2, np.float32)})
    >>> for client, change, examples in (("ada", [1, 2], 30), ("ben", [5, 6], 10)):
    ...     delta = Part({"w": np.array(change, np.float32)})
    ...     state = strategy.accumulate(state, ClientUpdate("task", client, 0, {MODEL_PART: delta}, examples, 1))
    >>> state = strategy.finish(state)
    >>> state.version, state.model["w"].tolist()
    (1, [2.0, 3.0])
    """

    needs_all: ClassVar[bool] = False
    """True for an algorithm that must see every update at once; only those keep a list."""
    traits: ClassVar[frozenset[Trait]] = frozenset()
    """What the table of forbidden pairs looks at before a run starts."""

    @property
    def least_updates(self) -> int:
        """A round with fewer updates moves nothing; a run whose cohorts are smaller is refused."""
        return 1

    # The client's half.

    def phases(self) -> Sequence[Phase]:
        """The stretches of local training, in order; exactly one is shared unless ``several_phases`` is a trait."""
        return (SHARED,)

    def stays_home(self, names: Sequence[str]) -> frozenset[str]:
        """Which of the trainable tensors, given in the order of the model, never leave their client."""
        return frozenset()

    def example_loss(
        self, task: Task, model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, context: ClientContext
    ) -> torch.Tensor:
        """Loss per example, shape [B]: whatever stands here is clipped per example."""
        return task.example_loss(model(x), y)

    def correction(self, params: Mapping[str, torch.Tensor], context: ClientContext) -> Mapping[str, torch.Tensor]:
        """What is added to the gradient AFTER clip and noise, by parameter name; nothing by default."""
        return {}

    def conclude(self, outcome: LocalOutcome) -> tuple[Mapping[str, Tensors], Mapping[str, Tensors]]:
        """The parts of the update, and what this client is to remember once the update was accepted.

        Everything here comes after clip and noise: under DP it may use the outcome and the memory, and nothing else.
        """
        return {MODEL_PART: outcome.delta}, {}

    # The server's half.

    def init(self, model: Tensors) -> StrategyState:
        """The server's state before the first round, around the initial weights."""
        return StrategyState(model=model)

    def broadcast(self, state: StrategyState) -> Mapping[str, Tensors]:
        """Tensors that travel to every client with the model, by slot and name."""
        return {}

    def parts(self, model: Tensors) -> Mapping[str, Tensors]:
        """What an update must hold: the tensors of each part, for a ``model`` without what stays at home."""
        return {MODEL_PART: model}

    def accumulate(self, state: StrategyState, update: ClientUpdate) -> StrategyState:
        """The state with one admitted update added: to its running sums, weighted by ``update.weight``, or to the
        list where ``needs_all``."""
        if self.needs_all:
            return replace(state, updates=(*state.updates, update))
        sums = dict(state.sums)
        for name, part in update.parts.items():
            sums[name] = sums.get(name, FixedPointSum()).add(part.tensors, update.weight)
        return replace(state, sums=sums)

    def ready(self, state: StrategyState) -> bool:
        """Whether the round may end before its cohort has answered; a synchronous strategy waits."""
        return False

    def combine(self, state: StrategyState, updates: Sequence[ClientUpdate]) -> Mapping[str, Tensors]:
        """One value a part from all updates, sorted by client_id; only where ``needs_all``."""
        raise ConfigError(f"strategy {type(self).__name__}: needs_all expects a combine of its own, got none")

    def finish(self, state: StrategyState) -> StrategyState:
        """The state after the round: a new model of the next version, and nothing open."""
        closed = replace(state, version=state.version + 1, sums={}, updates=())
        if self.needs_all:
            # The same client may stand in a buffer twice: its older update comes first.
            ordered = sorted(state.updates, key=lambda update: (update.client_id, update.base_version))
            means = self.combine(state, ordered) if ordered else {}
        else:
            means = {name: total.mean() for name, total in state.sums.items() if total.weight > 0}
        if MODEL_PART not in means:
            return closed
        # What stays at home moves by nothing here.
        whole = {**means, MODEL_PART: {**zeros_like(state.model), **means[MODEL_PART]}}
        return replace(stepped_by(self, state, whole), version=closed.version, sums={}, updates=())

    @abstractmethod
    def server_step(self, state: StrategyState, means: Mapping[str, Tensors]) -> StrategyState:
        """How the means of the updates' parts move the model (and the slots); what is open is closed afterwards."""


def stepped_by(strategy: Strategy, state: StrategyState, means: Mapping[str, Tensors]) -> StrategyState:
    """What ``server_step`` gives, if it is a state.

    Raises:
        ConfigError: it is something else.
    """
    stepped: object = strategy.server_step(state, means)
    if not isinstance(stepped, StrategyState):
        raise ConfigError(f"server_step: expected a StrategyState, got {type(stepped).__name__}")
    return stepped
