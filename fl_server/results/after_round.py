"""What is done to the model between the strategy's step and its publication: a list of steps, ``Model -> Model``.

A step that has nothing to do gives back the model that it got. Steps run in the order of ``STEPS`` and may look at the
round in ``AfterRound``, never at what another round left behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from fl_server.plan.setup import Setup
from fl_server.results.model import Model, Moving, Nets
from fl_server.results.ranges import mean_ranges
from strategies.base import StrategyState


@dataclass(frozen=True)
class AfterRound:
    """The round that a step looks at."""

    setup: Setup
    nets: Nets
    round: int
    summed: StrategyState
    """The strategy's state with all updates of the round in its sums, before it was finished."""


ModelStep = Callable[[Model, AfterRound], Model]


def average_running_ranges(model: Model, after: AfterRound) -> Model:
    """The ranges that clients measured as they trained, as their weighted mean."""
    return with_ranges(model, Moving(mean_ranges(after.summed, model.moving.ranges)))


def calibrate_in_public(model: Model, after: AfterRound) -> Model:
    """Where ``quant.ranges`` is public: the ranges of these weights on the public examples."""
    public = after.setup.data.public
    if after.setup.config.quant.ranges != "public" or public is None:
        return model
    return with_ranges(model, Moving(after.nets.calibrated(model, public.x)))


STEPS: tuple[ModelStep, ...] = (average_running_ranges, calibrate_in_public)


def after_round(model: Model, after: AfterRound) -> Model:
    """The model of a round, from the weights that the strategy gave and the ranges of the round before."""
    for step in STEPS:
        model = step(model, after)
    return model


def with_ranges(model: Model, moving: Moving) -> Model:
    """A model with these ranges; itself where they are what it has."""
    return model if moving == model.moving else replace(model, moving=moving)
