"""From plain sections to the objects that train: what server and client must build in exactly the same way.

A ``TrainingSpec`` is what a plan carries. Both sides build the model from it and the run's seed, so only trainable
tensors ever travel: a frozen front end is a public constant that each side makes for itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, cast

from pydantic import TypeAdapter
from torch import nn

from fl_core.config.schema import (
    ClientsSection,
    Config,
    ExportSection,
    ModelSection,
    OptimizerSection,
    StrategySection,
    TaskSection,
)
from fl_core.models import build_model
from fl_core.quant.fake_quant import set_fake_quant
from fl_core.quant.graph import QatModel
from fl_core.quant.prepare import TracedModel, quantize, trace_model
from fl_core.quant.spec import QuantSpec
from fl_core.registry import field_named
from fl_core.rng import derive_seed
from fl_core.tasks import build_task
from fl_core.tasks.base import Task


@dataclass(frozen=True)
class DataFacts:
    """What a model must know of the data; all of it public."""

    input_shape: tuple[int, ...]
    outputs: int
    input_range: tuple[float, float]


@dataclass(frozen=True)
class LocalSection:
    """What a client needs to know of ``clients``; whom a round asks, and why, is the server's own."""

    local_epochs: int
    batch_size: int
    local_steps: int | None
    optimizer: OptimizerSection

    @classmethod
    def of(cls, clients: ClientsSection) -> LocalSection:
        """The fields that decide what local training does."""
        return cls(clients.local_epochs, clients.batch_size, clients.local_steps, clients.optimizer)


@dataclass(frozen=True)
class TrainingSpec:
    """Everything that decides what a client computes, apart from its data, the model's weights and privacy."""

    task: TaskSection
    model: ModelSection
    clients: LocalSection
    quant: QuantSpec
    strategy: StrategySection
    export: ExportSection
    facts: DataFacts
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Activation ranges measured in public or under DP, by activation name; empty for fixed and learned ones."""

    @classmethod
    def of(cls, config: Config, facts: DataFacts) -> TrainingSpec:
        """The part of a config that travels."""
        local = LocalSection.of(config.clients)
        return cls(config.task, config.model, local, config.quant, config.strategy, config.export, facts)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> TrainingSpec:
        """Read back what ``to_plain`` gave."""
        return _adapter().validate_python(plain)

    def to_plain(self) -> dict[str, Any]:
        """As plain dicts, lists and scalars."""
        return cast("dict[str, Any]", _adapter().dump_python(self, mode="json"))

    def at_width(self, bits: int) -> TrainingSpec:
        """What clients whose weights have ``bits`` bits are sent."""
        return replace(self, quant=self.quant.at_width(bits))

    @property
    def task_named(self) -> str:
        """The config's field that names the task, and what stands in it."""
        return field_named("task", self.task.name or "classification", self.task.factory)

    def build_task(self) -> Task:
        """The task that is learned."""
        return build_task(self.task.name, self.task.factory)

    def build_model(self, seed: int) -> QatModel:
        """The quantization-aware model with its initial weights; fake-quant is on where ``quant.enabled``."""
        return self.quantize(self.trace_model(seed))

    def trace_model(self, seed: int) -> TracedModel:
        """The float model with its initial weights, traced."""
        return trace_model(self.float_model(seed), self.facts.input_shape)

    def float_model(self, seed: int) -> nn.Module:
        """The float model with its initial weights, as its author wrote it."""
        return build_model(
            self.model.name,
            self.model.factory,
            self.model.args,
            self.facts.input_shape,
            self.facts.outputs,
            derive_seed("model", seed),
        )

    def quantize(self, traced: TracedModel) -> QatModel:
        """A traced model with the bits and ranges of this spec; it has layers and grids of its own."""
        prepared = quantize(traced, self.quant, self.facts.input_range, dict(self.ranges) or None)
        set_fake_quant(prepared, self.quant.enabled, saturate=True)
        return prepared


@cache
def _adapter() -> TypeAdapter[TrainingSpec]:
    """Made once, for making one costs more than all that it reads and writes in a task."""
    return TypeAdapter(TrainingSpec)
