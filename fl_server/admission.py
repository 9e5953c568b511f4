"""Is this update fit to be summed? Everything is checked before anything is added.

Names, shapes, dtypes, finiteness, norm, weight, and that it answers the plan it was sent for. A rejected update
changes nothing: the round goes on as if its client had been unavailable.
"""

from __future__ import annotations

import numpy as np

from fl_core.config.schema import RoundSection
from fl_core.errors import UpdateRejectedError
from fl_core.tree import norm
from fl_core.types import ClientUpdate, RoundPlan, Tensors
from strategies.base import MODEL_PART


def check_update(update: ClientUpdate, plan: RoundPlan, model: Tensors, limits: RoundSection) -> None:
    """Return when the update may be summed.

    Raises:
        UpdateRejectedError: it may not; the message names the client, what was expected and what came.
    """
    who = f"update from client {plan.client_id}"
    answers = (update.client_id, update.task_id, update.base_version)
    asked = (plan.client_id, plan.task_id, plan.base_version)
    if answers != asked:
        raise UpdateRejectedError(f"{who}: expected the answer to task {asked}, got {answers}")
    if update.parts.keys() != {MODEL_PART}:
        raise UpdateRejectedError(f"{who}: expected parts {[MODEL_PART]}, got {sorted(update.parts)}")
    part = update.parts[MODEL_PART]
    origin = "none" if plan.dp is None else "dpsgd"
    if part.dp_origin != origin:
        raise UpdateRejectedError(f"{who}: expected tensors of DP origin {origin!r}, got {part.dp_origin!r}")
    _check_weight(who, update, plan, limits)
    _check_tensors(who, part.tensors, model)
    size = norm(part.tensors)
    if not size <= limits.max_update_norm:
        raise UpdateRejectedError(f"{who}: expected a norm of at most {limits.max_update_norm:g}, got {size:g}")


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
