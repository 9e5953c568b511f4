"""Is this update fit to be summed? Everything is checked before anything is added.

Names, shapes, dtypes, finiteness, norm, weight, and that it answers the plan it was sent for. A rejected update
changes nothing: the round goes on as if its client had been unavailable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fl_core.config.schema import RoundSection
from fl_core.errors import UpdateRejectedError
from fl_core.parts import HISTOGRAM_PART, RANGES_PART, expected_tensors, origin_of
from fl_core.tree import norm
from fl_core.types import ClientUpdate, RoundPlan, Tensors

MAX_RANGE = 1e6
"""A range that reaches further is no activation's."""
_HELPS = "; a smaller clients.optimizer.learning_rate usually helps"
_HELPS_PRIVATE = "; a smaller clients.optimizer.learning_rate or privacy.clip_norm usually helps"
"""What an honest client's update that is too large or not finite comes from, nearly always."""


def check_update(
    update: ClientUpdate,
    plan: RoundPlan,
    parts: Mapping[str, Tensors],
    limits: RoundSection,
    activations: Sequence[str] = (),
) -> None:
    """Return when the update may be summed.

    Args:
        update: what came.
        plan: what it answers; its ``asks`` are parts that must come beside those of the strategy.
        parts: the strategy's parts, with tensors of the names and shapes that each must have.
        limits: of norms and weights.
        activations: those whose running ranges it must bring, where the plan asks for ranges.

    Raises:
        UpdateRejectedError: it may not; the message names the client, what was expected and what came.
    """
    who = f"update from client {plan.client_id}"
    _check_answer(who, update, plan)
    expected = {**parts, **{name: expected_tensors(name, activations) for name in plan.asks}}
    if sorted(update.parts) != sorted(expected):
        raise UpdateRejectedError(f"{who}: expected parts {sorted(expected)}, got {sorted(update.parts)}")
    _check_weight(who, update, plan, limits)
    helps = _HELPS_PRIVATE if plan.dp is not None else _HELPS
    for name, shapes in expected.items():
        part, origin = update.parts[name], origin_of(name, plan.dp is not None)
        if part.dp_origin != origin:
            raise UpdateRejectedError(f"{who}: expected {name} of DP origin {origin!r}, got {part.dp_origin!r}")
        _check_tensors(who, part.tensors, shapes)
        _check_finite(who, part.tensors, helps)
        if name == RANGES_PART:
            _check_ranges(who, part.tensors)
        else:
            _check_norm(who, name, part.tensors, limits.max_update_norm, helps)


def check_spending(update: ClientUpdate, plan: RoundPlan, before: float | None) -> None:
    """Return when an update's epsilon can be what a ledger says that has counted this task.

    Args:
        update: what came.
        plan: what it answers.
        before: the epsilon that this client told with its last update that was summed; None where it told none.

    Raises:
        UpdateRejectedError: a private round was spent and the epsilon did not grow.
    """
    if plan.dp is None or before is None:
        return
    told = update.epsilon
    if told is None or not (told > before or told == before == 0.0):
        came = "none" if told is None else f"{told:.4f}"
        raise UpdateRejectedError(
            f"update from client {plan.client_id}: expected an epsilon above the {before:.4f} of its last update, for "
            f"a private round spends, got {came}; the device's ledger is not its newest one (fl-client ledger)"
        )


def check_figures(update: ClientUpdate, plan: RoundPlan, names: Sequence[str]) -> Tensors:
    """The noisy counts of a client, when they are fit to be summed.

    Raises:
        UpdateRejectedError: they are not; the message names the client, what was expected and what came.
    """
    who = f"ranges from client {plan.client_id}"
    _check_answer(who, update, plan)
    origin = origin_of(HISTOGRAM_PART, private=True)
    if update.parts.keys() != {HISTOGRAM_PART} or update.parts[HISTOGRAM_PART].dp_origin != origin:
        raise UpdateRejectedError(f"{who}: expected the noisy part {HISTOGRAM_PART!r}, got {sorted(update.parts)}")
    counts = update.parts[HISTOGRAM_PART].tensors
    _check_tensors(who, counts, expected_tensors(HISTOGRAM_PART, names))
    _check_finite(who, counts)
    return counts


def _check_norm(who: str, name: str, tensors: Tensors, most: float, helps: str) -> None:
    size = norm(tensors)
    if not size <= most:
        raise UpdateRejectedError(f"{who}: expected a norm of {name} of at most {most:g}, got {size:g}{helps}")


def _check_finite(who: str, tensors: Tensors, helps: str = "") -> None:
    for name, tensor in tensors.items():
        bad = int(np.size(tensor) - np.isfinite(tensor).sum())
        if bad:
            raise UpdateRejectedError(f"{who}: expected finite values, got {bad} NaN or Inf in {name}{helps}")


def _check_ranges(who: str, bounds: Tensors) -> None:
    for name, (low, high) in bounds.items():
        if not -MAX_RANGE <= low <= high <= MAX_RANGE:
            raise UpdateRejectedError(f"{who}: expected a range within {MAX_RANGE:g}, got {name} [{low}, {high}]")


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
