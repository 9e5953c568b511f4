"""What is found in the range of the inputs: one without zero leaves a part of the integer grid unused."""

from __future__ import annotations

from collections.abc import Iterator

from fl_core.findings import Finding
from fl_server.plan.inspected import Inspected


def range_without_zero(inspected: Inspected) -> Iterator[Finding]:
    """A range that does not hold zero, as every integer grid does, with the share of the grid that inputs use."""
    low, high = inspected.federation.input_range
    if low <= 0 <= high:
        return
    share = (high - low) / max(abs(low), abs(high))
    yield Finding(
        "input range",
        f"data: input_range ({low:g}, {high:g}) does not hold zero, and the grid of the inputs has to: they use "
        f"{share:.0%} of its steps; subtract a public constant from all inputs, so that zero lies within",
    )
