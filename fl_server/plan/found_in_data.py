"""Whether the grids of inputs and outputs hold the data: what lies outside a range is cut off in every forward.

Of each owner's values a share is counted. Where nearly all of them lie outside, nothing can be learned, and the run is
refused; where some do, or where they fill only a few of the steps that there are, it is said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fl_core.data.federation import PUBLIC
from fl_core.errors import DataError
from fl_core.findings import Finding
from fl_core.quant.fake_quant import ends, make_qparams
from fl_core.quant.lowered import QParams
from fl_core.types import Array
from fl_server.plan.inspected import Inspected

NEARLY_ALL = 0.9
"""Share of an owner's values outside a range at which there is nothing left to learn from."""
SOME = 0.01
"""Share that is worth a line."""
FEW_STEPS = 16
"""Values that fill fewer steps of a grid than so many are as good as rounded to 4 bits."""
FOLLOWING = ("ema", "learned")
"""Kinds of ranges whose output range moves to where the outputs are."""
MOST_OWNERS = 5
"""So many owners are named, those with the largest shares."""
MOST_VALUES = 1 << 20
"""So many values of an owner are looked at, evenly taken from all."""


@dataclass(frozen=True)
class ValuesOnGrid:
    """How the values of one owner lie on a grid."""

    owner: str
    outside: float
    """Share beyond the ends, by more than half a step."""
    low: float
    high: float
    steps: float
    """Steps of the grid between the lowest and the highest value."""

    @classmethod
    def of(cls, owner: str, values: Array, grid: QParams) -> ValuesOnGrid:
        """The fit of an array of numbers, not empty."""
        flat = values.reshape(-1)
        flat = flat[:: max(1, flat.size // MOST_VALUES)]
        low, high = ends(grid)
        room = grid.scale / 2
        outside = float(np.mean((flat < low - room) | (flat > high + room)))
        lowest, highest = float(flat.min()), float(flat.max())
        return cls(owner, outside, lowest, highest, (highest - lowest) / grid.scale)


def check_ranges(inspected: Inspected) -> None:
    """Refuse data of which nearly nothing lies inside the range of the inputs, or of the outputs.

    Raises:
        DataError: with every owner of such data.
    """
    problems: list[str] = []
    for held in _held(inspected):
        bad = sorted((fit for fit in held.fits if fit.outside >= NEARLY_ALL), key=lambda fit: -fit.outside)
        problems += [
            f"{fit.owner}: expected its {held.what} within {held.range}, got {100 * fit.outside:.0f} % of them "
            f"outside, from {fit.low:.4g} to {fit.high:.4g}; {held.way_on}"
            for fit in bad[:MOST_OWNERS]
        ]
        problems += [f"{len(bad) - MOST_OWNERS} more: as many of their {held.what}"] if bad[MOST_OWNERS:] else []
    if problems:
        raise DataError(problems)


def found_in_data(inspected: Inspected) -> Iterator[Finding]:
    """What a range cuts off of an owner's values, values that fill only a few of its steps, and steps that none can."""
    for held in _held(inspected):
        topic = f"{held.what.removesuffix('s')} range"
        some = sorted((fit for fit in held.fits if fit.outside >= SOME), key=lambda fit: -fit.outside)
        for fit in some[:MOST_OWNERS]:
            yield Finding(
                topic,
                f"{fit.owner}: {100 * fit.outside:.1f} % of its {held.what} lie outside {held.range} and are cut "
                f"off; they go from {fit.low:.4g} to {fit.high:.4g}; {held.way_on}",
            )
        if some[MOST_OWNERS:]:
            yield Finding(topic, f"{len(some) - MOST_OWNERS} more, with smaller shares of their {held.what}")
        if held.steps < FEW_STEPS:
            yield Finding(
                topic,
                f"all {held.what} lie within {_span(*held.span)}, which is {held.steps:.0f} of the 255 steps of "
                f"{held.range}; {held.way_on}",
            )
        elif not held.bounds[0] <= 0 <= held.bounds[1]:
            low, high = held.bounds
            yield Finding(
                topic,
                f"data: input_range ({low:g}, {high:g}) does not hold zero, and the grid of the inputs has to: they "
                f"use {(high - low) / max(abs(low), abs(high)):.0%} of its steps; subtract a public constant from all "
                "inputs, so that zero lies within",
            )


@dataclass(frozen=True)
class _Held:
    """How the values of all owners lie on one grid."""

    what: str
    bounds: tuple[float, float]
    """Where they are to lie."""
    fits: list[ValuesOnGrid]
    place: str
    """Where a range can be stated, with a gap for it."""

    @property
    def range(self) -> str:
        """The bounds in words."""
        return _span(*self.bounds)

    @property
    def span(self) -> tuple[float, float]:
        """The lowest and the highest value of any owner."""
        return min(fit.low for fit in self.fits), max(fit.high for fit in self.fits)

    @property
    def steps(self) -> float:
        """The most steps that one owner's values fill."""
        return max(fit.steps for fit in self.fits)

    @property
    def way_on(self) -> str:
        """What to do: another range, or other values where no range would help, for each of them holds zero."""
        low, high = min(self.span[0], 0.0), max(self.span[1], 0.0)
        if 255 * (self.span[1] - self.span[0]) < FEW_STEPS * (high - low):
            return f"take their mean off first, for every range holds zero, and {self.place.format('their range')}"
        return f"scale them, or {self.place.format(_in_round_numbers(low, high))}"


def _held(inspected: Inspected) -> Iterator[_Held]:
    """The inputs, and the outputs where they are to equal the targets."""
    parts, spec = dict(inspected.federation.parts()), inspected.spec
    grid = make_qparams(*spec.facts.input_range, spec.quant.grid)
    inputs = [ValuesOnGrid.of(owner, part.x, grid) for owner, part in parts.items()]
    yield _Held("inputs", spec.facts.input_range, inputs, "let the Federation say input_range={}")
    parts.pop(PUBLIC, None)  # whose targets may be anything
    wanted = {owner: inspected.task.wanted_outputs(part.y) for owner, part in parts.items()}
    targets = {owner: values for owner, values in wanted.items() if values is not None}
    if targets and spec.quant.ranges not in FOLLOWING:
        model = spec.quantize(inspected.traced)
        grid = model.grids[model.output_name].qparams()
        fits = [ValuesOnGrid.of(owner, values, grid) for owner, values in targets.items()]
        yield _Held("targets", ends(grid), fits, "put output_range = {} on the model's last layer")


def _in_round_numbers(low: float, high: float) -> str:
    """The range, rounded outwards to two digits."""
    digit = 10.0 ** math.floor(math.log10(max(-low, high, 1e-30))) / 10
    return f"({math.floor(low / digit) * digit:.4g}, {math.ceil(high / digit) * digit:.4g})"


def _span(low: float, high: float) -> str:
    return f"{low:.4g} to {high:.4g}"
