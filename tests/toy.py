"""Tiny federations for tests that a small net learns in seconds: three blobs to tell apart, numbers to predict, and
waves to reconstruct; each with or without a server test set and public examples.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import nn

from fl_core.config import Config
from fl_core.config.load import from_plain
from fl_core.data.federation import ClientData, Examples, Federation

CLASSES = 3
SHAPE = (2, 8)


def data(clients: int = 4, per_client: int = 48, test: int = 90, public: int = 32, seed: int = 0) -> Federation:
    """Blobs around three fixed centres, each example float32 [2, 8]."""
    draw = np.random.default_rng(seed)
    centres = np.random.default_rng(99).uniform(-0.7, 0.7, (CLASSES, *SHAPE))

    def examples(count: int) -> Examples:
        y = draw.integers(0, CLASSES, count)
        x = np.clip(centres[y] + 0.3 * draw.standard_normal((count, *SHAPE)), -1, 1)
        return Examples(x.astype(np.float32), y.astype(np.int64))

    return federate(examples, clients, per_client, test, public, ("a", "b", "c"), "a point of a blob")


def numbers(clients: int = 4, per_client: int = 48, test: int = 90, public: int = 32, seed: int = 0) -> Federation:
    """Inputs as above without centres; the target is a fixed linear form of them in about -1..1, float32 [N]."""
    draw = np.random.default_rng(seed)
    weights = np.random.default_rng(98).uniform(-0.25, 0.25, SHAPE)

    def examples(count: int) -> Examples:
        x = draw.uniform(-1, 1, (count, *SHAPE))
        return Examples(x.astype(np.float32), (x * weights).sum(axis=(1, 2)).astype(np.float32))

    return federate(examples, clients, per_client, test, public, (), "a reading and its number")


def waves(clients: int = 4, per_client: int = 48, test: int = 90, public: int = 32, seed: int = 0) -> Federation:
    """Inputs float32 [2, 8] that two numbers decide, so that a bottleneck of two can hold them; the target is x."""
    draw = np.random.default_rng(seed)
    basis = np.random.default_rng(97).uniform(-0.5, 0.5, (2, *SHAPE))

    def examples(count: int) -> Examples:
        x = np.tensordot(draw.uniform(-1, 1, (count, 2)), basis, axes=1).astype(np.float32)
        return Examples(x, x)

    return federate(examples, clients, per_client, test, public, (), "a wave")


def federate(
    examples: Callable[[int], Examples],
    clients: int,
    per_client: int,
    test: int,
    public: int,
    labels: tuple[str, ...],
    unit: str,
) -> Federation:
    """``clients`` people with held-out parts of their own; 0 for ``test`` or ``public`` means that there are none."""
    people = {f"client-{n}": ClientData(examples(per_client), examples(16)) for n in range(clients)}
    server = examples(test) if test else None
    return Federation(people, test=server, public=examples(public) if public else None, labels=labels, unit=unit)


def model(input_shape: tuple[int, ...], outputs: int) -> nn.Sequential:
    """A convolution and a linear layer."""
    channels, length = input_shape
    return nn.Sequential(nn.Conv1d(channels, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * length, outputs))


def predictor(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """``model`` whose outputs are numbers in -1..1, not logits: so the last layer says its range."""
    net = model(input_shape, outputs)
    net[-1].output_range = (-1.0, 1.0)
    return net


def squeeze(input_shape: tuple[int, ...], outputs: int, bottleneck: int = 4) -> nn.Module:
    """An autoencoder of four linear layers, with outputs in the range of its inputs."""
    inputs = int(np.prod(input_shape))
    last = nn.Linear(16, outputs)
    last.output_range = (-1.0, 1.0)
    sides = [nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, bottleneck), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *sides, nn.Linear(bottleneck, 16), nn.ReLU(), last)


def config(out: Path, **sections: object) -> Config:
    """A config of the toy federation; ``sections`` replace or extend the ones here."""
    plain: dict[str, object] = {
        "run": {"name": "toy", "rounds": 3, "seed": 7, "out": str(out)},
        "data": {"factory": "toy:data"},
        "model": {"factory": "toy:model"},
        "clients": {"batch_size": 16, "optimizer": {"learning_rate": 0.2}},
    }
    for name, section in sections.items():
        old = plain.get(name)
        plain[name] = old | section if isinstance(old, dict) and isinstance(section, dict) else section
    return from_plain(plain)
