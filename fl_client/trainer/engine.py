"""Engines: what turns jobs into outcomes. Each takes many jobs at once, in the same order as it gives their outcomes.

How an engine computes is its own; what it computes is one local training a job, as ``train_phases`` does it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from fl_client.trainer.asked import ASKED, example_losses
from fl_client.trainer.job import Outcome, TrainJob
from fl_client.trainer.phases import train_phases


class Engine(Protocol):
    """Trains clients."""

    def run(self, jobs: Sequence[TrainJob]) -> Iterator[Outcome | Exception]:
        """For each job, in order, its outcome, or the error for which this one client could not be trained.

        A caller is done with an outcome's net before it asks for the next one.
        """
        ...


class LoopEngine:
    """One job after the other, each with the user's own loss and correction as they are: what a board does."""

    def run(self, jobs: Sequence[TrainJob]) -> Iterator[Outcome | Exception]:
        """The outcome of each job, or the error of the one client that could not be trained, in order."""
        for job in jobs:
            yield _train(job)


def _train(job: TrainJob) -> Outcome | Exception:
    try:
        outcome = train_phases(job)
        result = outcome.result
        if result.train_loss is None and job.simulated:
            result = replace(result, train_loss=float(example_losses(job).numpy().mean()))
        asked = {name: ASKED[name](job) for name in job.plan.asks}
        return replace(outcome, parts={**outcome.parts, **asked}, result=result)
    except Exception as error:
        return error
