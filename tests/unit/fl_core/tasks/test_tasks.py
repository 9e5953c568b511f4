"""Every task keeps what training and evaluation rely on: losses per example, scores where higher is better."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fl_core.errors import ConfigError, DataError
from fl_core.tasks import TASKS, build_task

B, X = 6, 4


def outputs_and_targets(name: str) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Outputs, targets, and outputs that are right."""
    draw = np.random.default_rng(3)
    output = torch.from_numpy(draw.standard_normal((B, X)).astype(np.float32))
    if name == "classification":
        target = draw.integers(0, X, B)
        return output, target, np.eye(X, dtype=np.float32)[target]
    target = draw.standard_normal((B, X)).astype(np.float32)
    return output, target, target


@pytest.fixture(params=sorted(TASKS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_loss_of_an_example_does_not_depend_on_the_others(name: str) -> None:
    task = build_task(name)
    output, target, _ = outputs_and_targets(name)
    together = task.example_loss(output, task.targets(target))
    alone = [task.example_loss(output[i : i + 1], task.targets(target[i : i + 1])) for i in range(B)]
    assert together.shape == (B,)
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("classification", lambda output, target: F.cross_entropy(output, target)),
        ("regression", lambda output, target: 0.5 * F.mse_loss(output, target)),
        ("reconstruction", lambda output, target: F.mse_loss(output, target)),
    ],
)
def test_mean_of_losses_is_the_loss_of_the_batch(name, reference) -> None:
    task = build_task(name)
    output, target, _ = outputs_and_targets(name)
    mean = task.example_loss(output, task.targets(target)).mean()
    torch.testing.assert_close(mean, reference(output, task.targets(target)))


def test_right_outputs_score_best_and_higher_is_better(name: str) -> None:
    task = build_task(name)
    output, target, right = outputs_and_targets(name)
    best = task.example_score(right, target)
    assert best.shape == (B,)
    assert best.dtype == np.float64
    assert best.mean() == (1.0 if name == "classification" else 0.0)
    assert task.example_score(output.numpy(), target).mean() < best.mean()


def test_regression_of_one_number_takes_flat_targets() -> None:
    task = build_task("regression")
    target = np.array([1.0, 2.0], np.float32)
    task.check_targets("client a", target, 1)
    loss = task.example_loss(torch.tensor([[1.0], [4.0]]), task.targets(target))
    assert loss.tolist() == [0.0, 2.0]
    assert task.example_score(np.array([[1.0], [4.0]]), target).tolist() == [0.0, -2.0]


@pytest.mark.parametrize(
    ("name", "target", "outputs"),
    [
        ("classification", np.array([0.0, 1.0]), 2),
        ("classification", np.array([0, 2]), 2),
        ("classification", np.array([-1, 0]), 2),
        ("classification", np.array([[0], [1]]), 2),
        ("regression", np.array([1, 2]), 1),
        ("regression", np.array([1.0, np.nan]), 1),
        ("regression", np.zeros((2, 3)), 2),
        ("reconstruction", np.zeros((2, 3), np.float64), 3),
        ("reconstruction", np.zeros((2, 3), np.float32), 4),
    ],
)
def test_targets_of_another_form_are_refused_with_their_owner(name: str, target: np.ndarray, outputs: int) -> None:
    with pytest.raises(DataError, match="client 7"):
        build_task(name).check_targets("client 7", target, outputs)


def test_unknown_task_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'regression'"):
        build_task("regresion")
