"""The kinds of learning there are, and how one is made from a config."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fl_core.errors import ConfigError
from fl_core.registry import load_callable, look_up
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
        ConfigError: there is none of that name, or what came is no Task.
    """
    if factory is None:
        return look_up("task.name", name or "classification", TASKS)()
    task = load_callable(factory, "task.factory")()
    if not isinstance(task, Task):
        raise ConfigError(f"task.factory: expected a Task, got {type(task).__name__} from {factory}")
    return task
