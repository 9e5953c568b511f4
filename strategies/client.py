"""What the client half of a strategy may look at, and the stretches that its local training has.

Weights that came from the server, tensors that came beside them, and the client's own memory of earlier rounds:
torch tensors while a gradient is corrected, numpy arrays once training is over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from fl_core.types import FloatArray, Tensors

if TYPE_CHECKING:
    import torch

PERSONAL = "personal"
"""The slot of a client's memory that holds a model of its own."""
HOME = "home"
"""The slot that holds the tensors which stay at home."""


def join_tensors(model: Tensors, broadcast: Mapping[str, Tensors]) -> dict[str, FloatArray]:
    """All that travels to a client as one flat mapping: the model by name, what comes beside it by ``slot/name``."""
    return {**model, **{f"{slot}/{name}": t for slot, group in broadcast.items() for name, t in group.items()}}


def split_tensors(joined: Tensors) -> tuple[dict[str, FloatArray], dict[str, dict[str, FloatArray]]]:
    """What ``join_tensors`` joined."""
    model = {name: tensor for name, tensor in joined.items() if "/" not in name}
    groups: dict[str, dict[str, FloatArray]] = {}
    for name in joined.keys() - model.keys():
        slot, _, own = name.partition("/")
        groups.setdefault(slot, {})[own] = joined[name]
    return model, groups


def everything(name: str) -> bool:
    """Every trainable tensor."""
    return True


@dataclass(frozen=True)
class Phase:
    """One stretch of local training. What a personal phase trains never leaves the client."""

    name: str = "shared"
    trains: Callable[[str], bool] = everything
    """Which tensors move, by name; the others are held."""
    personal: bool = False
    starts_from: Literal["received", "personal"] = "received"
    """Where a personal phase starts: at the received model, or at the client's own of the last round."""
    epochs: int | None = None
    """Passes over the client's examples; None: as the config says."""


SHARED = Phase()


@dataclass(frozen=True)
class ClientContext:
    """What a loss or a correction may look at beside the weights that are trained; all of it read-only."""

    anchor: Mapping[str, torch.Tensor]
    """The weights that came from the server, with the client's own in place of those that stay at home."""
    broadcast: Mapping[str, Mapping[str, torch.Tensor]] = field(default_factory=dict)
    """What came beside them, by slot."""
    memory: Mapping[str, Mapping[str, torch.Tensor]] = field(default_factory=dict)
    """What this client kept, by slot; empty in its first round."""
    phase: Phase = SHARED
    reference: Callable[[Mapping[str, torch.Tensor], torch.Tensor], torch.Tensor] | None = None
    """``reference(weights, x)``: the outputs of the same net with other weights, without gradient."""


@dataclass(frozen=True)
class LocalOutcome:
    """What local training gave. Under DP ``delta`` is already private, and ``loss_before`` is None."""

    received: Tensors
    delta: Tensors
    """Trained minus received weights, without what stays at home."""
    broadcast: Mapping[str, Tensors]
    memory: Mapping[str, Tensors]
    steps: int
    learning_rate: float
    """Of this round, after the schedule."""
    momentum: float
    private: bool
    loss_before: float | None = None
    """Mean loss of the received model on the client's examples; only for a strategy that ``uses_losses``."""
