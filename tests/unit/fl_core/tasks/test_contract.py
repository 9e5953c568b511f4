"""A task that breaks its promise is refused on three examples, in one line with the config's field."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fl_core.errors import ConfigError, ModelError
from fl_core.tasks import TASKS
from fl_core.tasks.base import Task
from fl_core.tasks.contract import check_losses, check_task
from fl_core.tasks.regression import Regression
from support import odd

OUTPUTS = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
CLASSES = np.array([0, 3, 1])


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (odd.MeanLoss(), r"example_loss: expected one loss for each of 3 examples, shape \[3\], got \[\]"),
        (odd.Neighbours(), "example_loss: expected a loss of each example on its own"),
        (odd.ManyNeighbours(), "example_loss: expected a loss of each example on its own.* in a batch of 64"),
        (odd.Detached(), "example_loss: expected a loss with a gradient to the outputs"),
        (odd.Flat(), "example_loss: expected a loss that changes with the outputs, got a gradient of 0"),
        (odd.Endless(), "example_loss: expected finite losses, got inf"),
        (odd.Raising(), r"example_loss: ValueError: nothing is not .* \(.*odd.py, line \d+, in example_loss\)"),
        (odd.WritesTargets(), "example_loss: expected targets to stay as they are, got them changed in place"),
        (odd.WritesOutputs(), "example_loss: expected outputs to stay as they are, got them changed in place"),
        (odd.ScoresInPlace(), r"example_score: ValueError: .*read-only \(.*odd.py, line \d+, in example_score\)"),
        (odd.ScoresInTorch(), "example_score: expected targets to stay as they are, got them changed in place"),
        (odd.OneScore(), r"example_score: expected a numpy array with one score for each of 3 examples"),
    ],
)
def test_a_broken_promise_is_one_line(task: Task, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^task.factory odd:X: {message}") as caught:
        check_task(task, "task.factory odd:X", OUTPUTS, CLASSES)
    assert len(caught.value.problems) == 1


def test_a_broadcast_of_one_output_against_flat_targets_is_refused() -> None:
    with pytest.raises(ConfigError, match="a loss of each example on its own"):
        check_task(odd.Broadcasting(), "task", OUTPUTS[:, :1], OUTPUTS[:, 1])


def test_a_loss_that_is_flat_at_the_outputs_of_the_untrained_model_alone_is_taken() -> None:
    check_task(odd.WideMargin(), "task", np.abs(OUTPUTS) + 1, CLASSES)


def test_a_task_without_a_name_for_its_metric_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected a metric_name"):
        check_task(type("Nameless", (odd.OneScore,), {"metric_name": None})(), "task", OUTPUTS, CLASSES)


@pytest.mark.parametrize(
    ("name", "came"),
    [
        ("two\nlines", r"9 characters: 'two\\nlines'"),
        ("", "0 characters: ''"),
        (" ", "1 characters: ' '"),
        ("x" * 41, "41 characters: 'xxx"),
        (5, "got 5"),
    ],
)
def test_a_metric_has_a_short_name_in_one_line(name: object, came: str) -> None:
    with pytest.raises(ConfigError, match=f"^task: expected a metric_name.* in one line of 1 to 40.*{came}") as caught:
        check_task(type("Named", (odd.ScoresLike,), {"metric_name": name})(), "task", OUTPUTS, CLASSES)
    assert len(caught.value.problems) == 1


def test_targets_without_a_number_for_some_are_taken() -> None:
    class Sparse(Regression):
        def example_loss(self, output_BX: torch.Tensor, target_B: torch.Tensor) -> torch.Tensor:
            return super().example_loss(output_BX, torch.nan_to_num(target_B))

        def example_score(self, output_BX: np.ndarray, target_B: np.ndarray) -> np.ndarray:
            return super().example_score(output_BX, np.nan_to_num(target_B))

    check_task(Sparse(), "task", OUTPUTS[:, :1], np.array([0.1, np.nan, 0.3], np.float32))


@pytest.mark.parametrize("name", sorted(TASKS))
def test_tasks_of_ours_keep_their_promise_on_targets_of_their_own(name: str) -> None:
    task = TASKS[name]()
    target = task.neutral_targets(OUTPUTS, 4)
    task.check_targets("nobody", target, 4)
    check_task(task, f"task.name {name}", OUTPUTS, target)


@pytest.mark.parametrize("loss", [torch.tensor(1.0), torch.zeros(3, 1), torch.zeros(2), 1.0, None])
def test_each_step_refuses_what_is_no_loss_for_each_example(loss: object) -> None:
    with pytest.raises(ModelError, match=r"expected one loss for each of 3 examples, shape \[3\]"):
        check_losses(loss, 3)  # type: ignore[arg-type]
    check_losses(torch.zeros(3), 3)
