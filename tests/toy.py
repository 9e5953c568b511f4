"""A tiny federation for tests: three blobs that a small net learns in seconds, and clients that misbehave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import nn

from fl_core.config import Config
from fl_core.config.load import from_plain
from fl_core.data.federation import ClientData, Examples, Federation

CLASSES = 3
SHAPE = (2, 8)


def data(clients: int = 4, per_client: int = 48, test: int = 90, seed: int = 0) -> Federation:
    """Blobs around three fixed centres, each example float32 [2, 8]."""
    draw = np.random.default_rng(seed)
    centres = np.random.default_rng(99).uniform(-0.7, 0.7, (CLASSES, *SHAPE))

    def examples(count: int) -> Examples:
        y = draw.integers(0, CLASSES, count)
        x = np.clip(centres[y] + 0.3 * draw.standard_normal((count, *SHAPE)), -1, 1)
        return Examples(x.astype(np.float32), y.astype(np.int64))

    people = {f"client-{n}": ClientData(examples(per_client), examples(16)) for n in range(clients)}
    server = examples(test) if test else None
    return Federation(people, test=server, public=examples(32), labels=("a", "b", "c"), unit="a point of a blob")


def model(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A convolution and a linear layer."""
    channels, length = input_shape
    return nn.Sequential(
        nn.Conv1d(channels, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * length, outputs)
    )


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
