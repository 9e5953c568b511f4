"""What happens to activation ranges in a round: those that clients measure are pooled, and what any cuts off is told.

Fixed and learned ranges need no pooling. Ranges travel in every plan and are kept in the checkpoint.
"""

from __future__ import annotations

import numpy as np

from fl_core.parts import RANGES_PART
from fl_core.tree import FixedPointSum
from fl_server.plan.setup import Setup
from fl_server.plan.tasks import Ranges
from fl_server.results.model import Model, Nets
from strategies.base import StrategyState

CLIPPED_EXAMPLES = 64
"""So many examples show what share of an activation's values its range cuts off."""


def clipped_by_layer(setup: Setup, nets: Nets, model: Model, round: int) -> dict[str, float] | None:
    """The share of each activation's values that its range cuts off, after the first round and after the last.

    Looked at on the server's own or public examples; None without such, and in every other round.
    """
    known = setup.data.test or setup.data.public
    if known is None or round not in (1, setup.config.run.rounds):
        return None
    evenly = np.linspace(0, len(known) - 1, min(len(known), CLIPPED_EXAMPLES)).astype(int)  # parts are often in order
    return nets.clipped(model, known.x[evenly])


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
