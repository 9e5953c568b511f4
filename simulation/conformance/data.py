"""What the suite trains and sums: a small net, three blobs to tell apart, and updates as clients would send them.

The factories ``net`` and ``blobs`` are named by the configs of the suite's own runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fl_core.data.federation import ClientData, Examples, Federation
from fl_core.parts import parts_of
from fl_core.rng import generator
from fl_core.types import ClientUpdate, FloatArray, Tensors
from strategies.base import Strategy, StrategyState
from strategies.client import LocalOutcome

if TYPE_CHECKING:
    from torch import nn

BLOB_CLASSES = 3
SHAPE = (2, 4)
CLIENT_IDS = ("root", "client-1", "client-2", "client-3", "client-4", "client-5", "client-6")
"""The first is the one that a strategy with a trusted client of its own trusts by default."""
LOCAL_STEPS = 3


def net(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A convolution, a normalisation and a linear layer, the same at every call."""
    import torch
    from torch import nn

    channels, length = input_shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv1d(channels, 4, 3, padding=1),
            nn.BatchNorm1d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(4 * length, outputs),
        )


def blobs() -> Federation:
    """Seven clients with 24 examples of three well separated classes each, and a test set of 60."""
    draw = generator("conformance", "blobs")
    centres = draw.uniform(-0.8, 0.8, (BLOB_CLASSES, *SHAPE))

    def examples(count: int) -> Examples:
        y = draw.integers(0, BLOB_CLASSES, count)
        x = np.clip(centres[y] + 0.2 * draw.standard_normal((count, *SHAPE)), -1, 1)
        return Examples(x.astype(np.float32), y.astype(np.int64))

    people = {name: ClientData(examples(24), examples(8)) for name in CLIENT_IDS}
    return Federation(people, test=examples(60), public=examples(12), labels=("a", "b", "c"), unit="a point")


def model() -> dict[str, FloatArray]:
    """The trainable tensors of ``net``, in its order."""
    named = net(SHAPE, BLOB_CLASSES).named_parameters()
    return {name: param.detach().numpy().copy() for name, param in named}


def travelling(strategy: Strategy) -> dict[str, FloatArray]:
    """Those of ``model`` that do not stay at home."""
    tensors = model()
    home = strategy.stays_home(list(tensors))
    return {name: tensor for name, tensor in tensors.items() if name not in home}


def drawn(strategy: Strategy, *names: str | int) -> dict[str, FloatArray]:
    """A change of the weights, normal with standard deviation 0.1, that depends on the names alone."""
    draw = generator("conformance", "delta", *names)
    shapes = travelling(strategy)
    return {n: (0.1 * draw.standard_normal(t.shape)).astype(np.float32) for n, t in shapes.items()}


def outcome(strategy: Strategy, state: StrategyState, delta: Tensors, private: bool = False) -> LocalOutcome:
    """What local training would have given for that change, in a client's first round."""
    asked = "uses_losses" in strategy.traits and not private
    loss = 0.75 if asked else None
    return LocalOutcome(state.model, delta, strategy.broadcast(state), {}, LOCAL_STEPS, 0.1, 0.0, private, loss)


def update(
    strategy: Strategy, state: StrategyState, client: str, delta: Tensors, weight: int = 1, base_version: int = 0
) -> ClientUpdate:
    """The update of one client, with the parts that the strategy's own client half makes."""
    parts, _ = strategy.conclude(outcome(strategy, state, delta))
    return ClientUpdate(f"task-{client}", client, base_version, parts_of(parts, False), weight, LOCAL_STEPS)


def updates(strategy: Strategy, state: StrategyState, weights: Sequence[int], round: int = 0) -> list[ClientUpdate]:
    """One update of each client, all different, in the order of ``CLIENT_IDS``."""
    return [
        update(strategy, state, client, drawn(strategy, round, client), weight, state.version)
        for client, weight in zip(CLIENT_IDS, weights, strict=False)
    ]


def finish(strategy: Strategy, state: StrategyState, answered: Sequence[ClientUpdate]) -> StrategyState:
    """A round in which these updates came in, in this order."""
    for each in answered:
        state = strategy.accumulate(state, each)
    return strategy.finish(state)


def rejected(state: StrategyState) -> StrategyState:
    """The state as a round leaves it that did not reach its quorum."""
    return replace(state, sums={}, updates=())


def joined(groups: Mapping[str, Tensors]) -> dict[str, FloatArray]:
    """Tensors of all groups in one mapping."""
    return {f"{group}/{name}": tensor for group, tensors in groups.items() for name, tensor in tensors.items()}
