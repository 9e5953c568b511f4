"""What a run says of activations that run into the ends of their ranges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fl_core.findings import Finding
from fl_server.watch.state import RunState

MUCH = 0.2
"""Share of an activation's values beyond its range at which a line is due. Nets get used to less: that of
quickstart_no_dp has up to .11 cut off and is as good as one that was trained in float (docs/figures.md)."""


def newest_clipped(state: RunState) -> Mapping[str, float]:
    """By activation, the share of its values that its range cut off when somebody looked last; empty before."""
    looked = [each.clipped for each in state.finished_rounds() if each.clipped is not None]
    return looked[-1] if looked else {}


def found_in_activations(state: RunState) -> Iterator[Finding]:
    """Each hidden activation of which much is cut off, and what usually helps."""
    kinds = ["public", "ema" if state.privacy is None else "dp_histogram", "learned"]
    fits = " or ".join(kind for kind in kinds if kind != state.start.get("ranges"))
    for layer, share in newest_clipped(state).items():
        if layer != "input" and share >= MUCH:
            yield Finding(
                "activation range",
                f"layer {layer}: {100 * share:.0f} % of its values lie beyond its range and are cut off; fit all "
                f"ranges with quant.ranges={fits}, or put output_range = (low, high) on this layer",
            )
