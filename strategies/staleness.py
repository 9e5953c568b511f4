"""How much an update counts that was trained on an older model (Xie et al. 2019, arXiv 1903.03934, section 5.2).

    constant    s(t) = 1
    polynomial  s(t) = (t + 1) ** -a
    hinge       s(t) = 1 where t <= b, else 1 / (a * (t - b) + 1)

t, the staleness, is the number of versions between the model that the update started from and the newest one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from fl_core.errors import UpdateRejectedError
from fl_core.types import ClientUpdate, Tensors
from strategies.base import MODEL_PART, StrategyState

Staleness = Literal["constant", "polynomial", "hinge"]


def staleness_weight(kind: Staleness, versions: int, a: float, b: float) -> float:
    """The weight s(versions) of an update that is so many versions old: above 0, at most 1."""
    if kind == "polynomial":
        return float((versions + 1.0) ** -a)
    if kind == "hinge" and versions > b:
        return 1.0 / (a * (versions - b) + 1.0)
    return 1.0


def check_staleness(kind: str, a: float, b: float, max_staleness: int | None) -> None:
    """Refuse values that no weight can be made of.

    Raises:
        ValueError: one of them; the message names it.
    """
    checks = {
        "staleness": (kind in get_args(Staleness), f"one of {', '.join(get_args(Staleness))}", kind),
        "a": (a > 0, "above 0", a),
        "b": (b >= 0, "at least 0", b),
        "max_staleness": (max_staleness is None or max_staleness >= 0, "at least 0 or null", max_staleness),
    }
    for name, (ok, expected, got) in checks.items():
        if not ok:
            raise ValueError(f"strategy.args.{name}: expected {expected}, got {got!r}")


def versions_behind(state: StrategyState, update: ClientUpdate, most: int | None) -> int:
    """The staleness of an update: how many versions its model is behind the newest one.

    Raises:
        UpdateRejectedError: the staleness is above ``most``, or the update is from a version that is still to come.
    """
    versions = state.version - update.base_version
    if versions < 0 or (most is not None and versions > most):
        raise UpdateRejectedError(
            f"update from client {update.client_id}: expected a staleness of 0 to {most}, got {versions}"
        )
    return versions


def with_delta(update: ClientUpdate, delta: Tensors, scale: float, part: str = MODEL_PART) -> ClientUpdate:
    """The update with ``scale * delta`` as its change of the model, in place of its part ``part``."""
    scaled = {name: (scale * tensor.astype(np.float64)).astype(np.float32) for name, tensor in delta.items()}
    parts = {name: value for name, value in update.parts.items() if name != part}
    return replace(update, parts={**parts, MODEL_PART: replace(update.parts[part], tensors=scaled)})
