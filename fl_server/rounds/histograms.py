"""Activation ranges that are measured once under DP, before round 1: one noisy histogram of each client.

A measured range never covers the output, whose constant has to hold for the logits of a trained model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fl_core import wire
from fl_core.errors import UpdateRejectedError, WireError
from fl_core.quant.ranges import ranges_from_histogram
from fl_core.questions import RANGES
from fl_core.runlog import RunLog
from fl_core.tree import FixedPointSum
from fl_core.types import ClientInfo, DpTerms, Tensors
from fl_core.update import decode_update
from fl_server.nodes.exchange import Exchange
from fl_server.nodes.mailbox import ask
from fl_server.plan.setup import Setup
from fl_server.plan.tasks import Ranges, histogram_plan
from fl_server.results.model import Model
from fl_server.rounds.admission import check_figures
from fl_server.rounds.spending import ClientLedgers, largest, spent_unsummed, told_by

HISTOGRAM_MARGIN = 2.0
"""Ranges under DP are measured on untrained weights: this much room is left for what training does to them."""
SIGNIFICANT_STDS = 3.0
"""A mean count below this many standard deviations of its noise says nothing."""


@dataclass(frozen=True)
class PaidRanges:
    """Ranges, and what clients had spent when they were measured; nothing where no budget paid for them."""

    ranges: Ranges
    spent: Mapping[str, float] = field(default_factory=dict)
    """By client whose histograms were summed, as far as it told."""
    epsilon_max: float | None = None
    """The largest of any client, as a round counts it."""


def histogram_ranges(
    exchange: Exchange,
    setup: Setup,
    log: RunLog,
    nodes: Mapping[int, ClientInfo],
    model: Model,
    names: Sequence[str],
    ledgers: ClientLedgers | None = None,
) -> PaidRanges:
    """Ask every client once for noisy histograms of the activations ``names``, paid from its budget."""
    plans = {node_id: histogram_plan(setup, info, len(names)) for node_id, info in nodes.items()}
    packed = wire.pack_tensors(model.tensors)
    contents = {node_id: wire.pack_task(plan, packed) for node_id, plan in plans.items()}
    total, spent, most = FixedPointSum(), dict[str, float](), None
    for reply in ask(exchange, RANGES, contents, "ranges", setup.config.round.deadline_s):
        plan = plans[reply.node_id]
        client, claim = plan.client_id, None
        try:
            if reply.content is None:
                raise WireError(reply.failure)
            refusal = wire.refusal_of(reply.content)
            if refusal:
                raise WireError(refusal)
            update = decode_update(wire.unpack_update(reply.content, client), f"client {client}")
            claim = update.epsilon
            total = total.add(check_figures(update, plan, names), 1)
        except (WireError, UpdateRejectedError) as error:
            log.append("client_failed", 0, client_id=client, reason=f"ranges: {error}")
            most = largest(most, spent_unsummed(plan, claim, None, ledgers))
            continue
        most = largest(most, told_by(claim))
        if claim is not None:
            spent[client] = claim
    return PaidRanges(_ranges_of(total, next(iter(plans.values())).dp if plans else None), spent, most)


def _ranges_of(total: FixedPointSum, terms: DpTerms | None) -> Ranges:
    """The ranges that a sum of histograms says under these terms, which all clients have."""
    if not total.count:
        return {}
    noise_std = terms.noise_multiplier * terms.clip_norm / math.sqrt(total.count) if terms else 0.0
    found = ranges_from_histogram(significant(total.mean(), noise_std))
    return {name: (low * HISTOGRAM_MARGIN, high * HISTOGRAM_MARGIN) for name, (low, high) in found.items()}


def significant(mean_counts: Tensors, noise_std: float) -> dict[str, npt.NDArray[np.float64]]:
    """Mean counts without what may well be noise alone: else the widest bin of many would win by chance."""
    return {
        name: np.where(counts > SIGNIFICANT_STDS * noise_std, counts, 0.0).astype(np.float64)
        for name, counts in mean_counts.items()
    }
