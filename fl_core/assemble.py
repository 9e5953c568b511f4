"""From plain sections to the objects that train: what server and client must build in exactly the same way.

A ``TrainingSpec`` is what a plan carries. Both sides build the model from it and the run's seed, so only trainable
tensors ever travel: a frozen front end is a public constant that each side makes for itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import nn

from fl_core.config.schema import ClientsSection, Config, ExportSection, ModelSection, StrategySection, TaskSection
from fl_core.data.datasets import build_federation
from fl_core.data.federation import Federation
from fl_core.errors import ModelError
from fl_core.models import build_model
from fl_core.quant.fake_quant import set_fake_quant
from fl_core.quant.graph import QatModel
from fl_core.quant.prepare import prepare_qat
from fl_core.quant.spec import QuantSpec
from fl_core.quant.split import split_frozen
from fl_core.rng import derive_seed
from fl_core.tasks import build_task
from fl_core.tasks.base import Task
from fl_core.types import FloatArray, Tensors


@dataclass(frozen=True)
class DataFacts:
    """What a model must know of the data; all of it public."""

    input_shape: tuple[int, ...]
    outputs: int
    input_range: tuple[float, float]


@dataclass(frozen=True)
class TrainingSpec:
    """Everything that decides what a client computes, apart from its data, the model's weights and privacy."""

    task: TaskSection
    model: ModelSection
    clients: ClientsSection
    quant: QuantSpec
    strategy: StrategySection
    export: ExportSection
    facts: DataFacts
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Activation ranges measured in public or under DP, by activation name; empty for fixed and learned ones."""

    @classmethod
    def of(cls, config: Config, facts: DataFacts) -> TrainingSpec:
        """The part of a config that travels."""
        return cls(
            config.task, config.model, config.clients, config.quant, config.strategy, config.export, facts
        )  # fmt: skip

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> TrainingSpec:
        """Read back what ``to_plain`` gave."""
        return TypeAdapter(cls).validate_python(plain)

    def to_plain(self) -> dict[str, Any]:
        """As plain dicts, lists and scalars."""
        return cast("dict[str, Any]", TypeAdapter(TrainingSpec).dump_python(self, mode="json"))

    def at_width(self, bits: int) -> TrainingSpec:
        """The same for clients whose weights have so many bits."""
        return replace(self, quant=self.quant.at_width(bits))

    def build_task(self) -> Task:
        """The task that is learned."""
        return build_task(self.task.name, self.task.factory)

    def build_model(self, seed: int) -> QatModel:
        """The quantization-aware model with its initial weights; fake-quant is on where ``quant.enabled``."""
        float_model = build_model(
            self.model.name,
            self.model.factory,
            self.model.args,
            self.facts.input_shape,
            self.facts.outputs,
            derive_seed("model", seed),
        )
        prepared = prepare_qat(
            float_model, self.quant, self.facts.input_shape, self.facts.input_range, dict(self.ranges) or None
        )
        set_fake_quant(prepared, self.quant.enabled, saturate=True)
        return prepared


def federation_of(config: Config) -> Federation:
    """The checked data of a config."""
    data = config.data
    return build_federation(data.name or data.factory or "", data.args, data.partition, config.run.seed)


def trainable_tensors(model: nn.Module) -> dict[str, FloatArray]:
    """Copies of all parameters that are trained, by name in sorted order."""
    named = sorted((name, p) for name, p in model.named_parameters() if p.requires_grad)
    return {name: np.array(param.detach().numpy(), dtype=np.float32, copy=True) for name, param in named}


def load_tensors(model: nn.Module, tensors: Tensors) -> None:
    """Write ``tensors`` into the trainable parameters of ``model``.

    Raises:
        ModelError: names or shapes differ.
    """
    params = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if params.keys() != tensors.keys():
        raise ModelError(f"model: expected tensors {sorted(params)}, got {sorted(tensors)}")
    for name, param in params.items():
        if tuple(param.shape) != tuple(tensors[name].shape):
            raise ModelError(f"model: expected {name} of shape {tuple(param.shape)}, got {tensors[name].shape}")
        with torch.no_grad():
            param.copy_(torch.from_numpy(np.array(tensors[name], dtype=np.float32)))


def outputs(model: nn.Module, x: FloatArray, *, fake_quant: bool, batch_size: int = 64) -> FloatArray:
    """Outputs for all rows of ``x`` in eval mode, and no trace of that left behind.

    With ``fake_quant`` off nothing is rounded, and activations are cut to their ranges all the same: clipping is part
    of what was trained.
    """
    training = model.training
    quantized, saturated = (
        any(getattr(module, name, False) for module in model.modules()) for name in ("fake_quant", "saturate")
    )
    model.eval()
    set_fake_quant(model, fake_quant, saturate=True)
    try:
        with torch.inference_mode():
            parts = [model(torch.from_numpy(x[at : at + batch_size])).numpy() for at in range(0, len(x), batch_size)]
    finally:
        set_fake_quant(model, quantized, saturate=saturated)
        model.train(training)
    return np.concatenate(parts)


class FrozenCache:
    """A model cut behind its frozen front end, and that front end's outputs for the examples it was shown.

    Outputs are kept by a name that the caller gives to a fixed array of examples, up to ``limit_bytes`` in all.
    """

    def __init__(self, model: QatModel, limit_bytes: int = 1 << 29) -> None:
        self.whole = model
        parts = split_frozen(model)
        self.trained: QatModel = model if parts is None else parts[1]
        """What is left to compute behind the front end; the whole model where there is none."""
        self._prefix = None if parts is None else parts[0]
        self._room_bytes = limit_bytes
        self._kept: dict[tuple[str, bool], FloatArray] = {}

    def features(self, name: str, x: FloatArray, *, fake_quant: bool) -> FloatArray:
        """What ``trained`` takes as its input, for the examples ``x`` known as ``name``."""
        if self._prefix is None:
            return x
        key = name, fake_quant
        if key in self._kept:
            return self._kept[key]
        found = outputs(self._prefix, x, fake_quant=fake_quant)
        if found.nbytes <= self._room_bytes:
            self._room_bytes -= found.nbytes
            self._kept[key] = found
        return found

    def outputs(self, name: str, x: FloatArray, *, fake_quant: bool) -> FloatArray:
        """The whole model's outputs for the examples ``x`` known as ``name``."""
        return outputs(self.trained, self.features(name, x, fake_quant=fake_quant), fake_quant=fake_quant)
