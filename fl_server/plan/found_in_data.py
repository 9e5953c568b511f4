"""Whether the grids of inputs and outputs hold the data: what lies outside a range is cut off in every forward.

Of each owner's values a share is counted. Where nearly all of them lie outside, nothing can be learned, and the run is
refused; where some do, or where they fill only a few of the steps that there are, it is said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fl_core.data.federation import Examples, Federation
from fl_core.errors import DataError
from fl_core.findings import Finding
from fl_core.quant.fake_quant import ends, make_qparams
from fl_core.quant.lowered import QParams
from fl_core.types import Array
from fl_server.plan.findings import Inspected

NEARLY_ALL = 0.9
"""Share of an owner's values outside a range at which there is nothing left to learn from."""
SOME = 0.01
"""Share that is worth a line."""
FEW_STEPS = 16
"""Values that fill fewer steps of a grid than so many are as good as rounded to 4 bits."""
MOST_VALUES = 1 << 20
"""So many values of an owner are looked at, evenly taken from all."""


@dataclass(frozen=True)
class Fit:
    """How the values of one owner lie on a grid."""

    owner: str
    outside: float
    """Share beyond the ends, by more than half a step."""
    low: float
    high: float
    steps: float
    """Steps of the grid between the lowest and the highest value."""

    @classmethod
    def of(cls, owner: str, values: Array, grid: QParams) -> Fit:
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
    problems = [
        f"{fit.owner}: expected its {what} within {_span(*ends(grid))}, got {fit.outside:.0%} of them outside, "
        f"from {fit.low:.4g} to {fit.high:.4g}; {way_on}"
        for what, grid, fits, way_on in _fits(inspected)
        for fit in fits
        if fit.outside >= NEARLY_ALL
    ]
    if problems:
        raise DataError("\n".join(problems))


def found_in_data(inspected: Inspected) -> Iterator[Finding]:
    """What a range cuts off of an owner's values, and values that fill only a few of its steps."""
    for what, grid, fits, way_on in _fits(inspected):
        for fit in fits:
            if fit.outside >= SOME:
                yield Finding(
                    f"{what[:-1]} range",
                    f"{fit.owner}: {fit.outside:.1%} of its {what} lie outside {_span(*ends(grid))} and are cut off; "
                    f"they go from {fit.low:.4g} to {fit.high:.4g}; {way_on}",
                )
        if fits and max(fit.steps for fit in fits) < FEW_STEPS:
            span = _span(min(fit.low for fit in fits), max(fit.high for fit in fits))
            yield Finding(
                f"{what[:-1]} range",
                f"all {what} lie within {span}, which is {max(fit.steps for fit in fits):.0f} of the 255 steps of "
                f"{_span(*ends(grid))}; {way_on}",
            )


def _fits(inspected: Inspected) -> Iterator[tuple[str, QParams, list[Fit], str]]:
    """What, its grid, how each owner's values lie on it, and what to do: for inputs, and for outputs that are targets."""
    parts = owners(inspected.federation)
    quant, facts = inspected.spec.quant, inspected.spec.facts
    grid = make_qparams(*facts.input_range, quant.grid)
    fits = [Fit.of(owner, part.x, grid) for owner, part in parts.items()]
    yield "inputs", grid, fits, f"scale them, or let the Federation say input_range={_around(fits)}"
    wanted = {owner: inspected.task.wanted_outputs(part.y) for owner, part in parts.items()}
    wanted.pop("public", None)  # whose targets may be anything
    held = {owner: values for owner, values in wanted.items() if values is not None}
    if held and quant.ranges != "ema":  # whose output range follows the outputs
        model = inspected.spec.build_model(inspected.config.run.seed)
        grid = model.grids[model.output_name].qparams()
        fits = [Fit.of(owner, values, grid) for owner, values in held.items()]
        yield "targets", grid, fits, f"scale them, or put output_range = {_around(fits)} on the model's last layer"


def owners(federation: Federation) -> dict[str, Examples]:
    """Every part of a federation by the words that name its owner."""
    parts = {f"client {name}, train": client.train for name, client in federation.clients.items()}
    parts |= {f"client {name}, test": client.test for name, client in federation.clients.items() if client.test}
    return parts | {
        name: part for name, part in (("server test set", federation.test), ("public", federation.public)) if part
    }


def _around(fits: list[Fit]) -> str:
    """A range in round numbers that holds the values of all owners."""
    low, high = min(fit.low for fit in fits), max(fit.high for fit in fits)
    digit = 10.0 ** math.floor(math.log10(max(abs(low), abs(high), 1e-30))) / 10
    return f"({math.floor(low / digit) * digit:.4g}, {math.ceil(high / digit) * digit:.4g})"


def _span(low: float, high: float) -> str:
    return f"{low:.4g} to {high:.4g}"
