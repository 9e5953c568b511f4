"""The parts that an update may hold, in one table: what is in each, when it may leave a device, how it is summed.

Whoever sends, checks, clips or sums a part reads its row here and knows no part by name. A part without a row is a
strategy's own: its tensors are those that the strategy's ``parts`` names, and ``STRATEGY_PART`` says the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fl_core.errors import PolicyError
from fl_core.types import DpOrigin, FloatArray, Part, Tensors

MODEL_PART = "delta"
"""Trained minus received weights."""
LOSS_PART = "mean_loss"
"""What a strategy weighs clients by: the mean loss of the received model on the client's examples."""
RMS_LOSS_PART = "rms_loss"
"""What a rule of selection chooses by: the root mean square loss of the trained model on the client's examples."""
RANGES_PART = "ranges"
"""Running activation ranges, [low, high] by activation."""
HISTOGRAM_PART = "histogram"
"""Noisy counts by activation: the answer to a plan of round 0."""

BIN_EDGES = 2.0 ** np.arange(-6, 9, 0.5)
"""Public upper edges of a histogram's bins, 2**-6 to 2**8.5: smaller values fall in the first, larger in the last."""

TensorNames = tuple[str, ...] | Literal["strategy", "activations"]
Summed = Literal["weighted", "equally", "by_strategy", "never"]
"""By the update's weight, each client once, as the strategy's ``accumulate`` does it, or not at all."""


@dataclass(frozen=True)
class PartKind:
    """One row: what a part is and what may be done with it."""

    holds: str
    """What its numbers are, with their unit."""
    tensors: TensorNames = "strategy"
    """Names of its tensors: these, one an activation, or those that the strategy's ``parts`` gives."""
    shape: tuple[int, ...] = ()
    """Shape of each tensor, float32; not read where the strategy gives them."""
    refusal_under_dp: str | None = None
    """Why it may not leave a device under per-example DP; None: it may."""
    dp_origin: DpOrigin = "dpsgd"
    """What makes it private where it may leave under DP."""
    clip_group: str | None = "update"
    """The parts of an update that one bound on the norm holds jointly; None: no bound changes it. Nothing reads it yet:
    it is the seam for what changes parts after clipping, which must keep that bound."""
    summed: Summed = "weighted"
    """How the server adds it up; what is never summed is taken out as it comes in."""
    asked_by_plan: bool = False
    """Whether it comes where the plan ``asks`` for it, in addition to the parts of the strategy."""


_LOSSES = "losses of private examples would leave the device without noise"

STRATEGY_PART = PartKind(holds="what the strategy says")
"""The row of every part that is a strategy's own."""

PARTS: Mapping[str, PartKind] = {
    MODEL_PART: PartKind(holds="changes of weights"),
    LOSS_PART: PartKind(
        holds="a mean loss", tensors=(LOSS_PART,), shape=(1,), refusal_under_dp=_LOSSES, summed="by_strategy"
    ),
    RMS_LOSS_PART: PartKind(
        holds="a root mean square loss", tensors=("rms",), shape=(1,), refusal_under_dp=_LOSSES, clip_group=None,
        summed="never", asked_by_plan=True,
    ),
    RANGES_PART: PartKind(
        holds="lowest and highest activations", tensors="activations", shape=(2,), clip_group=None,
        refusal_under_dp="running ranges of private examples would leave the device without noise",
        asked_by_plan=True,
    ),
    HISTOGRAM_PART: PartKind(
        holds="numbers of examples by largest activation", tensors="activations", shape=(len(BIN_EDGES),),
        dp_origin="gaussian", clip_group="histogram", summed="equally",
    ),
}  # fmt: skip
"""Every part that has a row of its own, by name."""

ASKED_PARTS = tuple(name for name, kind in PARTS.items() if kind.asked_by_plan)
"""What a plan may ask for."""


def kind_of(name: str) -> PartKind:
    """The row of a part; that of a strategy's own part where the table has no such name."""
    return PARTS.get(name, STRATEGY_PART)


def expected_tensors(name: str, activations: Sequence[str] = ()) -> dict[str, FloatArray]:
    """Zeros with the names and shapes of the tensors of part ``name``.

    Args:
        name: a part whose shapes the table has.
        activations: those that are measured, for a part of one tensor an activation.

    Raises:
        ValueError: the strategy's ``parts`` has the shapes of this part.
    """
    kind = kind_of(name)
    if kind.tensors == "strategy":
        raise ValueError(f"part {name!r}: its shapes are those of the strategy's parts")
    names = activations if kind.tensors == "activations" else kind.tensors
    return {tensor: np.zeros(kind.shape, np.float32) for tensor in names}


def parts_of(tensors: Mapping[str, Tensors], private: bool) -> dict[str, Part]:
    """The parts of an update from their tensors, each with the origin of its privacy.

    Raises:
        PolicyError: the training was private and one of them may not leave the device then.
    """
    if private:
        check_private(tensors)
    return {name: Part(values, origin_of(name, private)) for name, values in tensors.items()}


def check_private(names: Iterable[str]) -> None:
    """Refuse parts that may not leave a device under per-example DP.

    Raises:
        PolicyError: one of ``names`` is such a part; says which and why.
    """
    for name in names:
        refusal = kind_of(name).refusal_under_dp
        if refusal is not None:
            raise PolicyError(f"part {name!r} under DP ({kind_of(name).holds}): {refusal}")


def origin_of(name: str, private: bool) -> DpOrigin:
    """The origin that a part must state: ``none`` without DP, else its row's."""
    return kind_of(name).dp_origin if private else "none"
