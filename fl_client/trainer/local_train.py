"""Local training of one client in one round: quantization-aware, and with per-example DP where the plan has terms.

forward with fake-quant -> loss per example -> (clip, noise) -> strategy.correction -> SGD step

A personal phase of a strategy is trained without noise whatever the plan says, for its weights never leave.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from fl_core.config.schema import OptimizerSection
from fl_core.privacy.dpsgd import PrivateStep
from fl_core.rng import NoiseSource, generator
from fl_core.spec import TrainingSpec
from fl_core.tasks.base import Task
from fl_core.types import Array, FloatArray, RoundPlan
from strategies.base import Strategy
from strategies.client import SHARED, ClientContext, Phase, run_to


@dataclass(frozen=True)
class LocalResult:
    """``train_loss`` is the mean over the examples seen; under DP it is None, for it is private."""

    steps: int
    train_loss: float | None


def local_train(
    model: nn.Module,
    inputs: FloatArray,
    targets: Array,
    plan: RoundPlan,
    spec: TrainingSpec,
    task: Task,
    strategy: Strategy,
    noise: NoiseSource,
    context: ClientContext,
) -> LocalResult:
    """Train ``model`` in place on ``inputs`` [N, ...] and ``targets`` [N]; say how many steps were taken.

    Only the tensors that the context's phase trains are moved; the others are held.
    """
    phase = context.phase
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    params = {name: p for name, p in trainable.items() if phase.trains(name)}
    context = replace(context, reference=_Reference(model))
    optimizer = torch.optim.SGD(
        params.values(),
        lr=round_rate(spec.clients.optimizer, plan),
        momentum=spec.clients.optimizer.momentum,
        weight_decay=spec.clients.optimizer.weight_decay,
    )
    x, y = torch.from_numpy(inputs), task.targets(targets)

    def example_loss(net: nn.Module, x_B: torch.Tensor, y_B: torch.Tensor) -> torch.Tensor:
        return strategy.example_loss(task, net, x_B, y_B, context)

    def step() -> None:
        for name, extra in strategy.correction(params, context).items():
            gradient = params[name].grad
            params[name].grad = extra if gradient is None else gradient + extra
        optimizer.step()

    model.train()
    held = [p for name, p in trainable.items() if name not in params]
    for param in held:
        param.requires_grad_(False)
    try:
        if plan.dp is not None and not phase.personal:
            with PrivateStep(model, plan.dp, noise) as private:
                for index in range(plan.dp.steps):
                    private.step(index, x, y, example_loss)
                    step()
            return LocalResult(plan.dp.steps, None)
        losses: list[float] = []
        steps = 0
        for rows in _batches(len(inputs), spec, plan, phase):
            optimizer.zero_grad()
            loss_B = example_loss(model, x[rows], y[rows])
            loss_B.mean().backward()  # type: ignore[no-untyped-call]
            step()
            steps += 1
            losses.extend(loss_B.detach().tolist())
        return LocalResult(steps, math.fsum(losses) / max(len(losses), 1))
    finally:
        for param in held:
            param.requires_grad_(True)


def round_rate(optimizer: OptimizerSection, plan: RoundPlan) -> float:
    """The learning rate of the plan's round."""
    return optimizer.learning_rate * schedule_factor(optimizer, plan.round, plan.rounds)


class _Reference:
    """A net with other weights, in eval mode and without gradient; it is copied when it is first asked for."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._copy: nn.Module | None = None

    def __call__(self, weights: Mapping[str, torch.Tensor], x: torch.Tensor, layer: str | None = None) -> torch.Tensor:
        if self._copy is None:
            self._copy = copy.deepcopy(self._model).eval()
        params = dict(self._copy.named_parameters())
        with torch.no_grad():
            for name, weight in weights.items():
                params[name].copy_(weight)
            found: torch.Tensor = self._copy(x) if layer is None else run_to(self._copy, layer, x)[1]
        return found


def schedule_factor(optimizer: OptimizerSection, round: int, rounds: int) -> float:
    """What the learning rate is multiplied with in ``round``, counted from 1."""
    progress = (round - 1) / rounds
    if optimizer.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1 - progress if optimizer.schedule == "linear" else 1.0


def _batches(examples: int, spec: TrainingSpec, plan: RoundPlan, phase: Phase) -> Iterator[Array]:
    """Rows of each batch: every epoch is a new permutation drawn from the run's seed, round, client and phase."""
    names = () if phase.name == SHARED.name else (phase.name,)
    draw = generator("batches", plan.seed, plan.round, plan.client_id, *names)
    size = spec.clients.batch_size
    per_epoch = math.ceil(examples / size)
    wanted = spec.clients.local_steps or spec.clients.local_epochs * per_epoch
    if phase.epochs is not None:
        wanted = phase.epochs * per_epoch
    order = np.empty(0, dtype=np.int64)
    for at in range(wanted):
        if at % per_epoch == 0:
            order = draw.permutation(examples)
        yield order[at % per_epoch * size : (at % per_epoch + 1) * size]
