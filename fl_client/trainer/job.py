"""The two records between a trainer and its engine: a ``TrainJob`` goes in, an ``Outcome`` comes out.

An engine sees nothing else of a client: neither ledger nor wire nor policy. What decides how a client trains stands
here as values, so an engine that trains many jobs at once can compare and join them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fl_core.config.schema import OptimizerSection
from fl_core.quant.forward import FrozenCache
from fl_core.quant.graph import QatModel
from fl_core.registry import field_named
from fl_core.rng import NoiseSource
from fl_core.spec import TrainingSpec
from fl_core.tasks.base import Task
from fl_core.types import Array, DpTerms, FloatArray, RoundPlan, Tensors
from strategies.base import Strategy


@dataclass(frozen=True)
class TrainJob:
    """All that training one client for one round needs."""

    plan: RoundPlan
    """Round, seed and terms of privacy, and the parts that it ``asks`` for beside those of the strategy."""
    spec: TrainingSpec
    """The plan's ``training``, parsed."""
    task: Task
    strategy: Strategy
    net: FrozenCache
    """Holds the net; jobs of equal nets share it, so its weights are nobody's between two jobs."""
    inputs: FloatArray
    """What the trained part of the net takes for each of the N examples, float32 [N, ...]: the frozen front end's
    outputs, or the examples themselves where nothing is frozen."""
    targets: Array
    """[N, ...]"""
    noise: NoiseSource
    received: Tensors
    """The model from the server: trainable tensors."""
    broadcast: Mapping[str, Tensors]
    """What the strategy sent beside it, by slot."""
    memory: Mapping[str, Tensors]
    """What the strategy kept on this client, by slot; empty in its first round."""
    simulated: bool = False
    """Whether figures that only a simulator may see are wanted: the training loss under DP too."""
    check: Callable[[], None] = lambda: None
    """Asked before each step; it raises where training must end there."""
    epsilon: float | None = None
    """What the update tells of the client's spending; training does not look at it."""

    @property
    def model(self) -> QatModel:
        """The net that is trained: what lies behind the frozen front end."""
        return self.net.trained

    @property
    def dp(self) -> DpTerms | None:
        """The terms of private training; None without DP."""
        return self.plan.dp

    @property
    def strategy_named(self) -> str:
        """The config's field that names the strategy, and what stands in it."""
        return field_named("strategy", self.spec.strategy.name, self.spec.strategy.factory)

    @property
    def optimizer(self) -> OptimizerSection:
        """How the weights move; its learning rate is that of the first round, before the schedule."""
        return self.spec.clients.optimizer


@dataclass(frozen=True)
class LocalResult:
    """How local training went."""

    steps: int
    train_loss: float | None
    """Mean over the examples seen; None under DP, for it is private, unless the job is ``simulated``."""


@dataclass(frozen=True)
class Outcome:
    """All that training one client for one round gives."""

    parts: Mapping[str, Tensors]
    """Tensors by part: the strategy's, and those that the plan asked for."""
    memory: Mapping[str, Tensors]
    """What the client is to remember once the update was accepted, by slot."""
    result: LocalResult
    """Steps and loss of the shared phases."""
    trained: Tensors
    """The weights after the shared phases."""
    personal: Tensors | None = None
    """The weights that this client would use itself, where they are not ``trained``."""

    @property
    def own_weights(self) -> Tensors:
        """The weights that this client would use itself."""
        return self.trained if self.personal is None else self.personal
