"""Activation ranges that are measured: in public, by the clients without DP, or once under DP before round 1.

fixed and learned ranges need nothing here. Ranges travel in every plan and are kept in the checkpoint. A measured
range never covers the output, whose constant has to hold for the logits of a trained model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from fl_core import wire
from fl_core.errors import PrivacyError, UpdateRejectedError, WireError
from fl_core.parts import RANGES_PART
from fl_core.privacy.accountant import noise_multiplier
from fl_core.quant.ranges import calibrate, measured_activations, ranges_from_histogram
from fl_core.questions import RANGES
from fl_core.runlog import RunLog
from fl_core.tree import FixedPointSum
from fl_core.types import ClientInfo, DpTerms, RoundPlan, Tensors
from fl_core.update import decode_update
from fl_server.nodes.exchange import Exchange
from fl_server.nodes.mailbox import ask
from fl_server.plan.setup import Setup
from fl_server.rounds.admission import check_figures
from strategies.base import StrategyState

Ranges = dict[str, tuple[float, float]]
HISTOGRAM_MARGIN = 2.0
"""Ranges under DP are measured on untrained weights: this much room is left for what training does to them."""
SIGNIFICANT_STDS = 3.0
"""A mean count below this many standard deviations of its noise says nothing."""


def public_ranges(setup: Setup) -> Ranges:
    """Ranges of the weights that ``setup.model`` holds, on the public examples."""
    assert setup.public is not None, "Setup.of refuses public ranges without public examples"
    found = calibrate(setup.model, torch.from_numpy(setup.public.x))
    return {name: found[name] for name in measured_names(setup) if name in found}


def mean_ranges(state: StrategyState, before: Mapping[str, tuple[float, float]]) -> Ranges:
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


def measured_names(setup: Setup) -> list[str]:
    """Activations whose range is measured."""
    return measured_activations(setup.model)


def histogram_ranges(
    exchange: Exchange, setup: Setup, log: RunLog, nodes: Mapping[int, ClientInfo], model: Tensors
) -> Ranges:
    """Ask every client once for noisy histograms, paid from its budget."""
    names = measured_names(setup)
    plans = {node_id: histogram_plan(setup, info) for node_id, info in nodes.items()}
    packed = wire.pack_tensors(model)
    contents = {node_id: wire.pack_task(plan, packed) for node_id, plan in plans.items()}
    total = FixedPointSum()
    for reply in ask(exchange, RANGES, contents, "ranges", setup.config.round.deadline_s):
        client = plans[reply.node_id].client_id
        try:
            if reply.content is None:
                raise WireError(reply.failure)
            refusal = wire.refusal_of(reply.content)
            if refusal:
                raise WireError(refusal)
            update = decode_update(wire.unpack_update(reply.content, client), f"client {client}")
            total = total.add(check_figures(update, plans[reply.node_id], names), 1)
        except (WireError, UpdateRejectedError) as error:
            log.append("client_failed", 0, client_id=client, reason=f"ranges: {error}")
    if not total.count:
        return {}
    terms = next(iter(plans.values())).dp
    noise_std = terms.noise_multiplier * terms.clip_norm / math.sqrt(total.count) if terms else 0.0
    found = ranges_from_histogram(significant(total.mean(), noise_std))
    return {name: (low * HISTOGRAM_MARGIN, high * HISTOGRAM_MARGIN) for name, (low, high) in found.items()}


def significant(mean_counts: Tensors, noise_std: float) -> dict[str, npt.NDArray[np.float64]]:
    """Mean counts without what may well be noise alone: else the widest bin of many would win by chance."""
    return {
        name: np.where(counts > SIGNIFICANT_STDS * noise_std, counts, 0.0).astype(np.float64)
        for name, counts in mean_counts.items()
    }


def histogram_plan(setup: Setup, info: ClientInfo) -> RoundPlan:
    """The plan of round 0: one Gaussian release of counts, worth ``privacy.ranges_share`` of epsilon."""
    privacy = setup.config.privacy
    if privacy is None:
        raise PrivacyError("quant.ranges: dp_histogram needs a privacy section")
    sigma = noise_multiplier(privacy.epsilon * privacy.ranges_share, privacy.delta, 1.0, 1, privacy.accountant)
    terms = DpTerms(
        epsilon=privacy.epsilon,
        delta=privacy.delta,
        clip_norm=math.sqrt(max(len(measured_names(setup)), 1)),
        noise_multiplier=sigma,
        sample_rate=1.0,
        steps=1,
        normaliser=1.0,
        accountant=privacy.accountant,
    )
    return replace(setup.plan(info, 0, 0), dp=terms)
