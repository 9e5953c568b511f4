"""All that is known of a run before its first round: what the finders and the checks of a plan look at."""

from __future__ import annotations

from dataclasses import dataclass

from fl_core.config import Config
from fl_core.data.federation import Federation
from fl_core.spec import TrainingSpec
from fl_core.tasks.base import Task
from strategies.base import Strategy


@dataclass(frozen=True)
class Inspected:
    """A run that could start."""

    config: Config
    federation: Federation
    """In a simulation with every client's examples; on a server with what it holds itself."""
    spec: TrainingSpec
    task: Task
    strategy: Strategy
