"""The local phases of a strategy, in order, from the received weights to the parts of an update and a new memory.

What stays at home replaces its received tensor before training; what a personal phase trains is kept in the client's
memory and never in an update. Under DP the shared phase is the private one, and all that follows from it is free.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from fl_client.trainer.local_train import LocalResult, local_train, round_rate
from fl_core.models.weights import load_tensors, trainable_tensors
from fl_core.quant.forward import outputs
from fl_core.quant.graph import QatModel
from fl_core.rng import NoiseSource
from fl_core.spec import TrainingSpec
from fl_core.tasks.base import Task
from fl_core.tree import subtract
from fl_core.types import Array, FloatArray, RoundPlan, Tensors
from strategies.base import Strategy
from strategies.client import HOME, PERSONAL, ClientContext, LocalOutcome, Phase


@dataclass(frozen=True)
class LocalTraining:
    """What all phases gave: ``result`` is that of the shared ones."""

    parts: Mapping[str, Tensors]
    memory: Mapping[str, Tensors]
    result: LocalResult
    personal: Tensors | None
    """The weights that this client would use itself, where they are not the shared ones."""


def train_phases(
    model: QatModel,
    inputs: FloatArray,
    targets: Array,
    plan: RoundPlan,
    spec: TrainingSpec,
    task: Task,
    strategy: Strategy,
    noise: NoiseSource,
    received: Tensors,
    broadcast: Mapping[str, Tensors],
    memory: Mapping[str, Tensors],
) -> LocalTraining:
    """Train ``model``, which holds the trainable tensors of ``received``, through all phases of ``strategy``.

    Afterwards it holds the weights of the shared phases.

    Raises:
        ModelError: the received or remembered tensors are not those of the model.
    """
    home = strategy.stays_home([name for name, p in model.named_parameters() if p.requires_grad])
    start = {**received, **{name: tensor for name, tensor in memory.get(HOME, {}).items() if name in home}}
    load_tensors(model, start)
    loss_before = _mean_loss(model, inputs, targets, task, spec) if "uses_losses" in strategy.traits else None
    beside, kept = ({slot: _torch(group) for slot, group in slots.items()} for slots in (broadcast, memory))
    context = ClientContext(_torch(start), beside, kept)
    steps, losses = 0, []
    own: dict[str, Tensors] = {}
    for phase in strategy.phases():
        shared = trainable_tensors(model)
        if phase.personal:
            kept_own = own.get(PERSONAL, memory.get(PERSONAL, start))
            load_tensors(model, kept_own if phase.starts_from == "personal" else start)
        in_phase = replace(context, phase=_resolved(phase, home))
        result = local_train(model, inputs, targets, plan, spec, task, strategy, noise, in_phase)
        if phase.personal:
            own[PERSONAL] = trainable_tensors(model)
            load_tensors(model, shared)
        else:
            steps += result.steps
            losses.append(result.train_loss)
    trained = trainable_tensors(model)
    if home:
        own[HOME] = {name: trained[name] for name in sorted(home)}
    delta = {name: t for name, t in subtract(trained, start).items() if name not in home}
    optimizer = spec.clients.optimizer
    outcome = LocalOutcome(
        received=received,
        delta=delta,
        broadcast=broadcast,
        memory=memory,
        steps=steps,
        learning_rate=round_rate(optimizer, plan),
        momentum=optimizer.momentum,
        private=plan.dp is not None,
        loss_before=loss_before,
    )
    parts, remembered = strategy.conclude(outcome)
    return LocalTraining(parts, {**remembered, **own}, LocalResult(steps, losses[-1]), _personal(own, trained))


def _resolved(phase: Phase, home: frozenset[str]) -> Phase:
    """The phase with what it moves as names."""
    if phase.moves == "all":
        return phase
    return replace(phase, trains=lambda name: phase.trains(name) and (name in home) == (phase.moves == "home"))


def _personal(own: Mapping[str, Tensors], trained: Tensors) -> Tensors | None:
    if PERSONAL in own:
        return own[PERSONAL]
    return trained if HOME in own else None


def _torch(tensors: Tensors) -> dict[str, torch.Tensor]:
    """Copies, so that nothing that is trained changes them."""
    return {name: torch.from_numpy(np.array(tensor, dtype=np.float32)) for name, tensor in tensors.items()}


def _mean_loss(model: QatModel, inputs: FloatArray, targets: Array, task: Task, spec: TrainingSpec) -> float:
    output_BX = torch.from_numpy(outputs(model, inputs, fake_quant=spec.quant.enabled))
    return float(task.example_loss(output_BX, task.targets(targets)).mean())
