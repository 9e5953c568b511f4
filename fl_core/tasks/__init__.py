"""The kinds of learning there are, and how one is made from a config."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fl_core.errors import ConfigError
from fl_core.registry import find_maker
from fl_core.tasks.base import Task
from fl_core.tasks.classification import Classification
from fl_core.tasks.reconstruction import Reconstruction
from fl_core.tasks.regression import Regression

TASKS: Mapping[str, Callable[[], Task]] = {
    "classification": Classification,
    "regression": Regression,
    "reconstruction": Reconstruction,
}


def build_task(name: str | None, factory: str | None = None) -> Task:
    """The task of that name, or of that "package.module:callable".

    Raises:
        ConfigError: there is none of that name, or the factory fails or makes no Task.
    """
    named = name or "classification" if factory is None else None
    task = find_maker("task", named, factory, TASKS)({})
    if not isinstance(task, Task):
        raise ConfigError(f"task.factory {factory}: expected a Task, got {type(task).__name__}")
    return task
