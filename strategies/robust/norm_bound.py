"""Norm bounding, Sun et al. 2019, arXiv 1911.07963.

    delta_k <- delta_k * min(1, max_norm / |delta_k|)

One client then moves a mean of n by at most max_norm / n: claimed example counts are ignored, for they would undo the
bound. It bounds and does not detect; put a robust rule inside for what a bound leaves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from fl_core.parts import MODEL_PART, kind_of
from fl_core.tree import norm
from fl_core.types import ClientUpdate, FloatArray, Tensors
from strategies.base import StrategyState, Trait
from strategies.wrapper import PassThrough


@dataclass(frozen=True, kw_only=True)
class NormBound(PassThrough):
    """Every update is scaled down to ``max_norm``, over all its parts together, and handed to ``inner``.

    ``inner`` may be a plain mean, a robust rule or an asynchronous strategy; a list is kept only where it keeps one.
    """

    traits: ClassVar[frozenset[Trait]] = frozenset({"robust"})
    max_norm: float = 1.0

    def __post_init__(self) -> None:
        if not self.max_norm > 0:
            raise ValueError(f"strategy.args.max_norm: expected above 0, got {self.max_norm}")
        super().__post_init__()

    def accumulate(self, state: StrategyState, update: ClientUpdate) -> StrategyState:
        """The bounded update, of weight 1, as the inner strategy takes it."""
        return self.inner.accumulate(state, bounded(update, self.max_norm))


def bounded(update: ClientUpdate, max_norm: float) -> ClientUpdate:
    """The update with the parts of the model's clip group scaled jointly to at most ``max_norm``, and weight 1."""
    jointly = kind_of(MODEL_PART).clip_group
    parts = {name: part for name, part in update.parts.items() if kind_of(name).clip_group == jointly}
    size = norm({f"{name}/{tensor}": t for name, part in parts.items() for tensor, t in part.tensors.items()})
    if size <= max_norm:
        return replace(update, weight=1)
    shrunk = {name: replace(part, tensors=scaled(part.tensors, max_norm / size)) for name, part in parts.items()}
    return replace(update, parts={**update.parts, **shrunk}, weight=1)


def scaled(tensors: Tensors, factor: float) -> dict[str, FloatArray]:
    """factor * tensors, rounded once to float32."""
    return {name: (t.astype("float64") * factor).astype("float32") for name, t in tensors.items()}
