"""The local phases of a strategy, in order, from the received weights to the parts of an update and a new memory.

What stays at home replaces its received tensor before training; what a personal phase trains is kept in the client's
memory and never in an update. Under DP the shared phase is the private one, and all that follows from it is free.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from fl_client.trainer.asked import example_losses
from fl_client.trainer.job import LocalResult, Outcome, TrainJob
from fl_client.trainer.local_train import local_train, round_rate
from fl_core.models.weights import load_tensors, trainable_tensors
from fl_core.tree import subtract
from fl_core.types import Tensors
from strategies.client import HOME, PERSONAL, ClientContext, LocalOutcome, Phase
from strategies.given_back import check_conclusion


def train_phases(job: TrainJob) -> Outcome:
    """Train the job's model from ``job.received`` through all phases of its strategy.

    Afterwards the model holds the weights of the shared phases.

    Raises:
        ModelError: the received or remembered tensors are not those of the model.
    """
    model, strategy = job.model, job.strategy
    home = strategy.stays_home([name for name, p in model.named_parameters() if p.requires_grad])
    kept = {name: tensor for name, tensor in job.memory.get(HOME, {}).items() if name in home}
    start: Tensors = {**job.received, **kept}
    load_tensors(model, start)
    loss_before = float(example_losses(job).mean()) if "uses_losses" in strategy.traits else None
    result, personal = _run_phases(job, start, home)
    trained = trainable_tensors(model)
    own = {} if personal is None else {PERSONAL: personal}
    if home:
        own[HOME] = {name: trained[name] for name in sorted(home)}
        personal = trained if personal is None else personal
    delta = {name: tensor for name, tensor in subtract(trained, start).items() if name not in home}
    concluded = strategy.conclude(_local_outcome(job, delta, result.steps, loss_before))
    parts, remembered = check_conclusion(job.strategy_named, concluded)
    return Outcome(parts, {**remembered, **own}, result, trained, personal)


def _run_phases(job: TrainJob, start: Tensors, home: frozenset[str]) -> tuple[LocalResult, Tensors | None]:
    """All phases from the weights ``start``: how the shared ones went, and what the personal ones made."""
    model = job.model
    broadcast, memory = ({slot: _torch(group) for slot, group in of.items()} for of in (job.broadcast, job.memory))
    context = ClientContext(_torch(start), broadcast, memory)
    steps, loss = 0, None
    personal: Tensors | None = None
    for phase in job.strategy.phases():
        in_phase = replace(context, phase=_resolved(phase, home))
        if phase.personal:
            shared = trainable_tensors(model)
            before = job.memory.get(PERSONAL, start) if personal is None else personal
            load_tensors(model, before if phase.starts_from == "personal" else start)
            local_train(job, in_phase)
            personal = trainable_tensors(model)
            load_tensors(model, shared)
        else:
            result = local_train(job, in_phase)
            steps, loss = steps + result.steps, result.train_loss
    return LocalResult(steps, loss), personal


def _local_outcome(job: TrainJob, delta: Tensors, steps: int, loss_before: float | None) -> LocalOutcome:
    return LocalOutcome(
        received=job.received,
        delta=delta,
        broadcast=job.broadcast,
        memory=job.memory,
        steps=steps,
        learning_rate=round_rate(job.optimizer, job.plan),
        momentum=job.optimizer.momentum,
        private=job.dp is not None,
        loss_before=loss_before,
    )


def _resolved(phase: Phase, home: frozenset[str]) -> Phase:
    """The phase with what it moves as names."""
    if phase.moves == "all":
        return phase
    return replace(phase, trains=lambda name: phase.trains(name) and (name in home) == (phase.moves == "home"))


def _torch(tensors: Tensors) -> dict[str, torch.Tensor]:
    """Copies, so that nothing that is trained changes them."""
    return {name: torch.from_numpy(np.array(tensor, dtype=np.float32)) for name, tensor in tensors.items()}
