"""Local training of one client in one round: quantization-aware, and with per-example DP where the plan has terms.

forward with fake-quant -> loss per example -> (clip, noise) -> strategy.correction -> SGD step
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from fl_core.assemble import TrainingSpec
from fl_core.config.schema import OptimizerSection
from fl_core.privacy.dpsgd import PrivateStep
from fl_core.rng import NoiseSource, generator
from fl_core.tasks.base import Task
from fl_core.types import Array, FloatArray, RoundPlan
from strategies.base import Strategy


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
) -> LocalResult:
    """Train ``model`` in place on ``inputs`` [N, ...] and ``targets`` [N]; say how many steps were taken."""
    params = {name: p for name, p in model.named_parameters() if p.requires_grad}
    anchor = {name: p.detach().clone() for name, p in params.items()}
    rate = spec.clients.optimizer.learning_rate * schedule_factor(spec.clients.optimizer, plan.round, plan.rounds)
    optimizer = torch.optim.SGD(
        params.values(),
        lr=rate,
        momentum=spec.clients.optimizer.momentum,
        weight_decay=spec.clients.optimizer.weight_decay,
    )
    x, y = torch.from_numpy(inputs), task.targets(targets)

    def example_loss(net: nn.Module, x_B: torch.Tensor, y_B: torch.Tensor) -> torch.Tensor:
        return strategy.example_loss(task, net, x_B, y_B, anchor)

    def step() -> None:
        for name, extra in strategy.correction(params, anchor).items():
            gradient = params[name].grad
            params[name].grad = extra if gradient is None else gradient + extra
        optimizer.step()

    model.train()
    if plan.dp is not None:
        with PrivateStep(model, plan.dp, noise) as private:
            for index in range(plan.dp.steps):
                private.step(index, x, y, example_loss)
                step()
        return LocalResult(plan.dp.steps, None)
    losses: list[float] = []
    steps = 0
    for rows in _batches(len(inputs), spec, plan):
        optimizer.zero_grad()
        loss_B = example_loss(model, x[rows], y[rows])
        loss_B.mean().backward()  # type: ignore[no-untyped-call]
        step()
        steps += 1
        losses.extend(loss_B.detach().tolist())
    return LocalResult(steps, math.fsum(losses) / max(len(losses), 1))


def schedule_factor(optimizer: OptimizerSection, round: int, rounds: int) -> float:
    """What the learning rate is multiplied with in ``round``, counted from 1."""
    progress = (round - 1) / rounds
    if optimizer.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1 - progress if optimizer.schedule == "linear" else 1.0


def _batches(examples: int, spec: TrainingSpec, plan: RoundPlan) -> Iterator[Array]:
    """Rows of each batch: every epoch is a new permutation drawn from the run's seed, round and client."""
    draw = generator("batches", plan.seed, plan.round, plan.client_id)
    size = spec.clients.batch_size
    per_epoch = math.ceil(examples / size)
    wanted = spec.clients.local_steps or spec.clients.local_epochs * per_epoch
    order = np.empty(0, dtype=np.int64)
    for at in range(wanted):
        if at % per_epoch == 0:
            order = draw.permutation(examples)
        yield order[at % per_epoch * size : (at % per_epoch + 1) * size]
