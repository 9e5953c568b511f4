"""Is this update fit to be summed? Everything is checked before anything is added.

Names, shapes, dtypes, finiteness, norm, weight, and that it answers the plan it was sent for. A rejected update
changes nothing: the round goes on as if its client had been unavailable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fl_core.config.schema import RoundSection
from fl_core.errors import UpdateRejectedError
from fl_core.quant.ranges import BIN_EDGES
from fl_core.tree import norm
from fl_core.types import ClientUpdate, RoundPlan, Tensors
from strategies.base import HISTOGRAM_PART, RANGES_PART

MAX_RANGE = 1e6
"""A range that reaches further is no activation's."""


def check_update(
    update: ClientUpdate,
    plan: RoundPlan,
    parts: Mapping[str, Tensors],
    limits: RoundSection,
    ranges: Sequence[str] = (),
) -> None:
    """Return when the update may be summed.

    ``parts`` has tensors of the names and shapes that each part must have, ``ranges`` the activations whose running
    ranges it must bring beside them.

    Raises:
        UpdateRejectedError: it may not; the message names the client, what was expected and what came.
    """
    who = f"update from client {plan.client_id}"
    _check_answer(who, update, plan)
    expected = sorted([*parts, RANGES_PART] if ranges else parts)
    if sorted(update.parts) != expected:
        raise UpdateRejectedError(f"{who}: expected parts {expected}, got {sorted(update.parts)}")
    _check_weight(who, update, plan, limits)
    origin = "none" if plan.dp is None else "dpsgd"
    for name, shapes in parts.items():
        part = update.parts[name]
        if part.dp_origin != origin:
            raise UpdateRejectedError(f"{who}: expected {name} of DP origin {origin!r}, got {part.dp_origin!r}")
        _check_tensors(who, part.tensors, shapes)
        size = norm(part.tensors)
        if not size <= limits.max_update_norm:
            raise UpdateRejectedError(
                f"{who}: expected a norm of {name} of at most {limits.max_update_norm:g}, got {size:g}"
            )
    if ranges:
        bounds = update.parts[RANGES_PART].tensors
        _check_tensors(who, bounds, {name: np.zeros(2, np.float32) for name in ranges})
        for name, (low, high) in bounds.items():
            if not -MAX_RANGE <= low <= high <= MAX_RANGE:
                raise UpdateRejectedError(f"{who}: expected a range within {MAX_RANGE:g}, got {name} [{low}, {high}]")


def check_figures(update: ClientUpdate, plan: RoundPlan, names: Sequence[str]) -> Tensors:
    """The noisy counts of a client, when they are fit to be summed.

    Raises:
        UpdateRejectedError: they are not; the message names the client, what was expected and what came.
    """
    who = f"ranges from client {plan.client_id}"
    _check_answer(who, update, plan)
    if update.parts.keys() != {HISTOGRAM_PART} or update.parts[HISTOGRAM_PART].dp_origin != "gaussian":
        raise UpdateRejectedError(f"{who}: expected the noisy part {HISTOGRAM_PART!r}, got {sorted(update.parts)}")
    counts = update.parts[HISTOGRAM_PART].tensors
    _check_tensors(who, counts, {name: np.zeros(len(BIN_EDGES), np.float32) for name in names})
    return counts


def _check_answer(who: str, update: ClientUpdate, plan: RoundPlan) -> None:
    answers = (update.client_id, update.task_id, update.base_version)
    asked = (plan.client_id, plan.task_id, plan.base_version)
    if answers != asked:
        raise UpdateRejectedError(f"{who}: expected the answer to task {asked}, got {answers}")


def _check_weight(who: str, update: ClientUpdate, plan: RoundPlan, limits: RoundSection) -> None:
    if plan.dp is not None and update.weight != 1:
        raise UpdateRejectedError(f"{who}: expected weight 1 under DP, got {update.weight}")
    if not 1 <= update.weight <= limits.max_weight:
        raise UpdateRejectedError(f"{who}: expected a weight of 1 to {limits.max_weight}, got {update.weight}")
    if update.local_steps < 1:
        raise UpdateRejectedError(f"{who}: expected at least 1 local step, got {update.local_steps}")


def _check_tensors(who: str, tensors: Tensors, model: Tensors) -> None:
    if tensors.keys() != model.keys():
        missing, extra = sorted(model.keys() - tensors.keys()), sorted(tensors.keys() - model.keys())
        raise UpdateRejectedError(f"{who}: expected tensors {sorted(model)}; missing {missing}, not known {extra}")
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32:
            raise UpdateRejectedError(f"{who}: expected {name} of dtype float32, got {tensor.dtype}")
        if tensor.shape != model[name].shape:
            raise UpdateRejectedError(f"{who}: expected {name} of shape {model[name].shape}, got {tensor.shape}")
        if not np.isfinite(tensor).all():
            bad = int(np.size(tensor) - np.isfinite(tensor).sum())
            raise UpdateRejectedError(f"{who}: expected finite values, got {bad} NaN or Inf in {name}")
