"""What the client half of a strategy may look at, and the stretches that its local training has.

Weights that came from the server, tensors that came with them, and the client's own memory of earlier rounds:
torch tensors while a gradient is corrected, numpy arrays once training is over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from fl_core.errors import ModelError
from fl_core.types import FloatArray, Tensors

if TYPE_CHECKING:
    import torch

PERSONAL = "personal"
"""The slot of a client's memory that holds a model of its own."""
HOME = "home"
"""The slot that holds the tensors which stay at home."""
WRAPPED = "_module"
"""Where a net is that is wrapped for gradients per example."""


def join_tensors(model: Tensors, broadcast: Mapping[str, Tensors]) -> dict[str, FloatArray]:
    """All that travels to a client as one flat mapping: the model by name, what comes with it by ``slot/name``."""
    return {**model, **{f"{slot}/{name}": t for slot, group in broadcast.items() for name, t in group.items()}}


def split_tensors(joined: Tensors) -> tuple[dict[str, FloatArray], dict[str, dict[str, FloatArray]]]:
    """The model, and what came with it by slot: undoes ``join_tensors``."""
    model = {name: tensor for name, tensor in joined.items() if "/" not in name}
    groups: dict[str, dict[str, FloatArray]] = {}
    for name in joined.keys() - model.keys():
        slot, _, own = name.partition("/")
        groups.setdefault(slot, {})[own] = joined[name]
    return model, groups


def everything(name: str) -> bool:
    """True for every name: the phase trains all tensors."""
    return True


@dataclass(frozen=True)
class Phase:
    """One stretch of local training. What a personal phase trains never leaves the client."""

    name: str = "shared"
    trains: Callable[[str], bool] = everything
    """Which tensors move, by name; the others are held."""
    moves: Literal["all", "home", "travelling"] = "all"
    """Which of the tensors that ``trains`` allows move: all, those that stay at home, or those that travel."""
    personal: bool = False
    starts_from: Literal["received", "personal"] = "received"
    """Where a personal phase starts: at the received model, or at the client's own of the last round."""
    epochs: int | None = None
    """Passes over the client's examples; None: as the config says."""


SHARED = Phase()


class Reference(Protocol):
    """The net that is trained, as it answers with other weights; without gradient and without a trace."""

    def __call__(self, weights: Mapping[str, torch.Tensor], x: torch.Tensor, layer: str | None = None) -> torch.Tensor:
        """Outputs for ``x`` [B, ...]; where a layer is named, what goes into that layer, as [B, D]."""


@dataclass(frozen=True)
class ClientContext:
    """What a loss or a correction may look at in addition to the weights that are trained; all of it read-only."""

    anchor: Mapping[str, torch.Tensor]
    """The weights that came from the server, with the client's own in place of those that stay at home."""
    broadcast: Mapping[str, Mapping[str, torch.Tensor]] = field(default_factory=dict)
    """Tensors that the server sent with the weights, by slot and name."""
    memory: Mapping[str, Mapping[str, torch.Tensor]] = field(default_factory=dict)
    """What this client kept, by slot; empty in its first round."""
    phase: Phase = SHARED
    reference: Reference | None = None
    """Runs the net that is trained with other weights; None where nothing asks for it."""


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
    """Learning rate of this round, after the schedule."""
    momentum: float
    private: bool
    loss_before: float | None = None
    """Mean loss of the received model on the client's examples; only for a strategy that ``uses_losses``."""

    @property
    def effective_steps(self) -> float:
        """|a|_1 of arXiv 2007.07481: displacement over learning rate, had every gradient been the same.

        A plain step counts once; with momentum m the gradient of step s of K counts (1 - m^(K-s+1)) / (1 - m) times.
        """
        m, count = self.momentum, self.steps
        return (count - m * (1 - m**count) / (1 - m)) / (1 - m)


def run_to(net: torch.nn.Module, layer: str, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs of ``net`` for ``x`` [B, ...], and what goes into the named layer, as [B, D].

    Raises:
        ModelError: there is no such layer.
    """
    from fl_core.quant.graph import QatModel

    net = net.get_submodule(WRAPPED) if hasattr(net, WRAPPED) else net
    layers = {name: module for name, module in net.named_modules() if name}
    if isinstance(net, QatModel):
        layers = {step.name: step.layer for step in net.steps if step.layer is not None}
    if layer not in layers:
        raise ModelError(f"model: expected one of the layers {sorted(layers)}, got {layer!r}")
    if isinstance(net, QatModel):  # in evaluation it computes on integers, without calling its layers
        tensors = net.tensors(x)
        (before,) = (step.inputs[0] for step in net.steps if step.name == layer)
        return tensors[net.output_name], tensors[before].flatten(1)
    seen: list[torch.Tensor] = []
    handle = layers[layer].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        output_BX: torch.Tensor = net(x)
    finally:
        handle.remove()
    return output_BX, seen[-1].flatten(1)
