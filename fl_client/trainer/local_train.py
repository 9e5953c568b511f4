"""Local training of one client in one round: quantization-aware, and with per-example DP where the plan has terms.

forward with fake-quant -> loss per example -> (clip, noise) -> strategy.correction -> SGD step

A personal phase of a strategy is trained without noise whatever the plan says, for its weights never leave.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from fl_client.trainer.job import LocalResult, TrainJob
from fl_client.trainer.sgd import Sgd
from fl_core.config.schema import OptimizerSection
from fl_core.privacy.dpsgd import PrivateStep
from fl_core.rng import generator
from fl_core.tasks.contract import check_losses
from fl_core.types import Array, DpTerms, RoundPlan
from strategies.client import SHARED, ClientContext, Phase, run_to
from strategies.given_back import check_correction


def local_train(job: TrainJob, context: ClientContext) -> LocalResult:
    """Train ``job.model`` in place through the phase of ``context``; say how many steps were taken.

    Only the tensors that the phase trains are moved; the others are held.
    """
    model, phase = job.model, context.phase
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    params = {name: p for name, p in trainable.items() if phase.trains(name)}
    rate = round_rate(job.optimizer, job.plan)
    optimizer = Sgd(params.values(), rate, job.optimizer.momentum, job.optimizer.weight_decay)
    descent = _Descent(job, replace(context, reference=_Reference(model)), params, optimizer)
    model.train()
    with _held([p for name, p in trainable.items() if name not in params]):
        return descent.plain() if job.dp is None or phase.personal else descent.private(job.dp)


@dataclass(frozen=True)
class _Descent:
    """Gradient steps of one phase: a loss an example, what the strategy adds to the gradient, and the optimizer."""

    job: TrainJob
    context: ClientContext
    params: Mapping[str, nn.Parameter]
    optimizer: Sgd

    def plain(self) -> LocalResult:
        """Steps over batches, without noise."""
        job, model = self.job, self.job.model
        x, y = torch.from_numpy(job.inputs), job.task.targets(job.targets)
        losses: list[float] = []
        steps = 0
        for rows in batches(job, self.context.phase):
            job.check()
            self.optimizer.zero_grad()
            loss_B = self._example_loss(model, x[rows], y[rows])
            check_losses(loss_B, len(rows))
            loss_B.mean().backward()  # type: ignore[no-untyped-call]
            self._step()
            steps += 1
            losses.extend(loss_B.detach().tolist())
        return LocalResult(steps, math.fsum(losses) / max(len(losses), 1))

    def private(self, terms: DpTerms) -> LocalResult:
        """Steps over Poisson samples, each clipped and noised."""
        job = self.job
        x, y = torch.from_numpy(job.inputs), job.task.targets(job.targets)
        with PrivateStep(job.model, terms, job.noise) as private:
            for index in range(terms.steps):
                job.check()
                private.step(index, x, y, self._example_loss)
                self._step()
        return LocalResult(terms.steps, None)

    def _example_loss(self, net: nn.Module, x_B: torch.Tensor, y_B: torch.Tensor) -> torch.Tensor:
        return self.job.strategy.example_loss(self.job.task, net, x_B, y_B, self.context)

    def _step(self) -> None:
        given = self.job.strategy.correction(self.params, self.context)
        for name, extra in check_correction(self.job.strategy_named, given, self.params).items():
            gradient = self.params[name].grad
            self.params[name].grad = extra if gradient is None else gradient + extra
        self.optimizer.step()


@contextmanager
def _held(params: list[nn.Parameter]) -> Iterator[None]:
    """These parameters need no gradient for a while."""
    for param in params:
        param.requires_grad_(False)
    try:
        yield
    finally:
        for param in params:
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


def batches(job: TrainJob, phase: Phase) -> Iterator[Array]:
    """Rows of each batch without DP: every epoch is a new permutation of the N examples, drawn from the run's seed,
    round, client and phase."""
    plan, local, examples = job.plan, job.spec.clients, len(job.inputs)
    names = () if phase.name == SHARED.name else (phase.name,)
    draw = generator("batches", plan.seed, plan.round, plan.client_id, *names)
    size = local.batch_size
    per_epoch = math.ceil(examples / size)
    wanted = local.local_steps or local.local_epochs * per_epoch
    if phase.epochs is not None:
        wanted = phase.epochs * per_epoch
    order = np.empty(0, dtype=np.int64)
    for at in range(wanted):
        if at % per_epoch == 0:
            order = draw.permutation(examples)
        yield order[at % per_epoch * size : (at % per_epoch + 1) * size]
