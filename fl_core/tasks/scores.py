"""The one place where a task scores: on arrays that it cannot write to, and with what it gives held to its form.

Outputs are kept and looked at again, and targets are the data themselves.
"""

from __future__ import annotations

import numpy as np

from fl_core.errors import ConfigError
from fl_core.own_code import own_code
from fl_core.tasks.base import Task
from fl_core.types import Array


def example_scores(task: Task, who: str, output_BX: Array, target_B: Array) -> Array:
    """The score of every example [B]; ``who`` is the config's field, what it names, and when.

    Raises:
        ConfigError: the task gives something else, or its own code fails, with file and line.
    """
    with own_code(f"{who}: example_score", ConfigError):
        score_B: object = task.example_score(read_only(output_BX), read_only(target_B))
    count = len(target_B)
    if not isinstance(score_B, np.ndarray) or score_B.shape != (count,):
        got = list(score_B.shape) if isinstance(score_B, np.ndarray) else type(score_B).__name__
        raise ConfigError(
            f"{who}: example_score: expected a numpy array with one score for each of {count} examples, shape "
            f"[{count}], got {got}"
        )
    bad = count if score_B.dtype.kind not in "fiub" else count - int(np.isfinite(score_B).sum())
    if bad:
        raise ConfigError(f"{who}: example_score: expected finite numbers, got {bad} others of {count} {score_B.dtype}")
    return score_B


def mean_score(task: Task, who: str, output_BX: Array, target_B: Array) -> float:
    """The task's metric: higher is better.

    Raises:
        ConfigError: as ``example_scores``.
    """
    return float(np.mean(example_scores(task, who, output_BX, target_B)))


def read_only(array: Array) -> Array:
    """A view of the same values that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view
