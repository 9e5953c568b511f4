"""One atomic file per round with everything that the next round needs; the latest and the one before it are kept.

A crash leaves the latest or the previous checkpoint whole. The file is safetensors: model and slots as tensors, the
rest as JSON in the header, under a digest that covers all of it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fl_core.errors import RunFolderError
from fl_core.files import write_atomic
from fl_core.types import FloatArray, Tensors
from strategies.base import StrategyState

_LATEST, _PREVIOUS = "latest.safetensors", "previous.safetensors"
_MODEL = "model"


@dataclass(frozen=True)
class Checkpoint:
    """A run between two rounds."""

    state: StrategyState
    rounds_done: int
    seq: int
    """The last event that belongs to the rounds done."""
    config_digest: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What was settled before round 1 and must not change: the clients' size classes, measured ranges."""


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write ``folder/latest.safetensors``; the one before becomes ``previous.safetensors``."""
    from safetensors.numpy import save

    groups: dict[str, Tensors] = {_MODEL: checkpoint.state.model}
    groups |= {f"slot.{name}": tensors for name, tensors in checkpoint.state.slots.items()}
    tensors = {f"{group}/{name}": t for group, values in groups.items() for name, t in values.items()}
    fields = {
        "version": checkpoint.state.version,
        "slots": sorted(checkpoint.state.slots),
        "rounds_done": checkpoint.rounds_done,
        "seq": checkpoint.seq,
        "config_digest": checkpoint.config_digest,
        "facts": checkpoint.facts,
    }
    data = save(tensors, metadata={"checkpoint": json.dumps(fields, sort_keys=True)})
    latest = folder / _LATEST
    if latest.exists():
        os.replace(latest, folder / _PREVIOUS)
    write_atomic(latest, hashlib.sha256(data).digest() + data)


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint; None when nothing was saved yet.

    Raises:
        RunFolderError: there are checkpoints and all of them are damaged.
    """
    paths = [path for path in (folder / _LATEST, folder / _PREVIOUS) if path.exists()]
    for path in paths:
        content = path.read_bytes()
        if hashlib.sha256(content[32:]).digest() == content[:32]:
            return _parse(content[32:])
    if paths:
        raise RunFolderError(f"{folder}: expected a whole checkpoint, got {len(paths)} damaged ones")
    return None


def _parse(data: bytes) -> Checkpoint:
    from safetensors.numpy import load

    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    fields = json.loads(header["__metadata__"]["checkpoint"])
    groups: dict[str, dict[str, FloatArray]] = {key: {} for key in (_MODEL, *(f"slot.{s}" for s in fields["slots"]))}
    for key, tensor in load(data).items():
        group, _, name = key.partition("/")
        groups[group][name] = tensor
    state = StrategyState(
        model=groups.pop(_MODEL),
        version=fields["version"],
        slots={group.removeprefix("slot."): tensors for group, tensors in groups.items()},
    )
    return Checkpoint(state, fields["rounds_done"], fields["seq"], fields["config_digest"], fields["facts"])
