"""What options of the commands have in common beyond what their types say."""

from __future__ import annotations

import math

import typer


def finite(value: float | None) -> float | None:
    """The callback of an option that takes a number: nan is in every range, for it is neither below nor above.

    Raises:
        typer.BadParameter: the number is nan or infinite.
    """
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"expected a finite number, got {value}")
    return value
