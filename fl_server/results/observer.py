"""What may be looked at when a round's artefacts are there: by a simulator alone, on boards nobody does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fl_core.export.artifact import Artifact
from fl_core.export.base import Runner
from fl_core.runlog import EventBatch
from fl_core.types import FloatArray
from fl_server.plan.setup import Setup
from fl_server.results.model import Model, Nets


@dataclass(frozen=True)
class Published:
    """A good artefact of a round, loaded in its runtime where that is here.

    ``test_output`` is None without a server test set, and where ``runner`` is.
    """

    weight_bits: int
    artifact: Artifact
    runner: Runner | None
    test_output: FloatArray | None


@dataclass(frozen=True)
class RoundView:
    """A round with its model and its artefacts; what the observer has to say goes to ``events``."""

    setup: Setup
    round: int
    model: Model
    nets: Nets
    published: tuple[Published, ...]
    events: EventBatch


Observer = Callable[[RoundView], None]
"""Called once a round, in the thread that publishes it; where a round makes no artefacts, before the round is over."""
