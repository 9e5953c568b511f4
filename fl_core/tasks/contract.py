"""What every task promises, tried on a few examples before a run; each training step holds it to one loss an example.

A loss of each example on its own is what clipping bounds. A mean over the batch, a broadcast of [B, 1] against [B] or a
loss that looks at its neighbours gives numbers as well, and trains something else.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import torch

from fl_core.errors import ConfigError, ModelError, one_line
from fl_core.own_code import own_code
from fl_core.tasks.base import Task
from fl_core.tasks.scores import example_scores
from fl_core.types import Array, FloatArray

BATCH = 64
"""Examples of the largest batch that a loss is tried on: some losses couple examples in a large one alone."""
MOST_NAME = 40
"""Characters of a metric's name."""


def check_losses(loss_B: torch.Tensor, count: int) -> None:
    """Refuse what is not one loss for each of ``count`` examples.

    Raises:
        ModelError: it has another shape, or is no tensor.
    """
    if not isinstance(loss_B, torch.Tensor) or tuple(loss_B.shape) != (count,):
        got = list(loss_B.shape) if isinstance(loss_B, torch.Tensor) else type(loss_B).__name__
        raise ModelError(
            f"example_loss: expected one loss for each of {count} examples, shape [{count}], got {got}; torch's losses "
            'give it with reduction="none" and a mean over the other axes'
        )


def check_task(task: Task, who: str, output_BX: FloatArray, target_B: Array) -> None:
    """Try a task on outputs of the model and targets of the data; ``who`` is the config's field and what it names.

    Raises:
        ConfigError: a promise does not hold, or the user's own code fails, with file and line.
    """
    _check_name(who, getattr(task, "metric_name", None))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of a broadcast, which is refused here
            with own_code(f"{who}: example_loss", ConfigError):
                _check_loss(task, torch.from_numpy(output_BX.copy()), task.targets(target_B.copy()))
            tried = _copied(output_BX, target_B)
            example_scores(task, who, *tried)
            _check_untouched("example_score", (output_BX, target_B), tried)
    except ModelError as error:
        raise ConfigError([f"{who}: {problem}" for problem in error.problems]) from error


def _check_name(who: str, name: object) -> None:
    """A metric's name stands in tables, charts and labels of metrics."""
    if isinstance(name, str) and name.strip() and name == one_line(name) and len(name) <= MOST_NAME:
        return
    got = f"{len(name)} characters: {name!r:.60}" if isinstance(name, str) else "none" if name is None else repr(name)
    raise ConfigError(
        f"{who}: expected a metric_name, what example_score measures, in one line of 1 to {MOST_NAME} characters; "
        f"got {got}"
    )


def _check_loss(task: Task, output_BX: torch.Tensor, target_B: torch.Tensor) -> None:
    count = len(output_BX)
    before = _copied(output_BX.numpy(), target_B.numpy())
    for size in range(count, 0, -1):  # a batch of one broadcasts against anything
        check_losses(task.example_loss(output_BX[:size], target_B[:size]), size)
    _check_untouched("example_loss", before, (output_BX.numpy(), target_B.numpy()))
    output_BX = output_BX.clone().requires_grad_()
    loss_B = task.example_loss(output_BX, target_B)
    if not torch.isfinite(loss_B).all():
        raise ModelError(f"example_loss: expected finite losses, got {_listed(loss_B)}")
    slope_BX = torch.autograd.grad(loss_B.sum(), output_BX, allow_unused=True)[0] if loss_B.requires_grad else None
    if slope_BX is None:
        raise ModelError("example_loss: expected a loss with a gradient to the outputs, got one without")
    if not torch.isfinite(slope_BX).all():
        raise ModelError("example_loss: expected a finite gradient to the outputs, got one that is not")
    if not slope_BX.any() and not any(_slopes(task, other, target_B).any() for other in _elsewhere(output_BX)):
        raise ModelError("example_loss: expected a loss that changes with the outputs, got a gradient of 0")
    for size in (count, BATCH):
        _check_alone(task, output_BX, target_B, size)


def _check_alone(task: Task, output_BX: torch.Tensor, target_B: torch.Tensor, size: int) -> None:
    """Refuse a loss that looks at its neighbours in a batch of ``size``, which repeats the examples as it must."""
    count = len(output_BX)
    rows = torch.arange(size) % count
    alone_B = torch.cat([task.example_loss(output_BX[i : i + 1], target_B[i : i + 1]) for i in range(count)])
    loss_B, again_B = (task.example_loss(output_BX[rows], target_B[rows]) for _ in range(2))
    check_losses(loss_B, size)
    if torch.equal(loss_B, again_B) and not torch.allclose(alone_B[rows], loss_B, rtol=1e-4, atol=1e-6):
        raise ModelError(
            "example_loss: expected a loss of each example on its own, got one that changes with the other examples of "
            f"its batch: {_listed(alone_B)} one by one, {_listed(loss_B[:count])} in a batch of {size}"
        )


def _copied(output_BX: Array, target_B: Array) -> tuple[Array, Array]:
    return output_BX.copy(), target_B.copy()


def _check_untouched(method: str, before: tuple[Array, Array], after: tuple[Array, Array]) -> None:
    """Refuse a method that writes into what it is given: outputs and targets are looked at again."""
    for name, was, now in zip(("outputs", "targets"), before, after, strict=True):
        if not np.array_equal(was, now, equal_nan=was.dtype.kind == "f"):
            raise ModelError(f"{method}: expected {name} to stay as they are, got them changed in place")


def _elsewhere(output_BX: torch.Tensor) -> Iterator[torch.Tensor]:
    """Other outputs, for a loss may well be flat at some."""
    draws = torch.Generator().manual_seed(0)
    for size in (0.1, 1.0, 10.0):
        yield output_BX.detach() + size * torch.randn(output_BX.shape, generator=draws)


def _slopes(task: Task, output_BX: torch.Tensor, target_B: torch.Tensor) -> torch.Tensor:
    """The gradient of the losses to the outputs, as [B, X]."""
    output_BX = output_BX.requires_grad_()
    return torch.autograd.grad(task.example_loss(output_BX, target_B).sum(), output_BX)[0]


def _listed(values: torch.Tensor) -> str:
    return ", ".join(f"{value:.4g}" for value in values.tolist())
