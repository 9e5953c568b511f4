"""Activation ranges that clients measure as they train, without DP: pooled once a round.

fixed and learned ranges need nothing here. Ranges travel in every plan and are kept in the checkpoint.
"""

from __future__ import annotations

from fl_core.parts import RANGES_PART
from fl_core.tree import FixedPointSum
from fl_server.plan.tasks import Ranges
from strategies.base import StrategyState


def mean_ranges(state: StrategyState, before: Ranges) -> Ranges:
    """The weighted mean of the clients' running ranges in an open round; the ones before where no client sent any.

    A strategy that needs all updates at once combines weights in a way of its own; ranges are a mean all the same.
    """
    total = state.sums.get(RANGES_PART, FixedPointSum())
    for update in state.updates:
        if RANGES_PART in update.parts:
            total = total.add(update.parts[RANGES_PART].tensors, update.weight)
    if not total.count:
        return dict(before)
    return {name: (float(pair[0]), float(pair[1])) for name, pair in total.mean().items()}
