"""One atomic file per round with everything that the next round needs; the latest and the one before it are kept.

A crash leaves the latest or the previous checkpoint whole. The file holds model and slots as tensors and the rest in
the header, under a digest that covers all of it. A round whose artefacts are not out yet keeps its checkpoint longer,
under ``unpublished/``, so that a resumed run can make up for them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fl_core.errors import RunFolderError
from fl_core.files import write_atomic
from fl_core.tensorfile import decode_header, decode_tensors, encode_tensors
from fl_core.tree import frozen
from fl_core.types import FloatArray, Tensors
from strategies.base import StrategyState

_LATEST, _PREVIOUS, _UNPUBLISHED = "latest.safetensors", "previous.safetensors", "unpublished"
_MODEL = "model"
_HEADER_LIMIT_BYTES = 100_000_000
"""What safetensors itself takes: the facts of a large fleet are megabytes, and a digest covers them."""
_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Checkpoint:
    """A run between two rounds."""

    state: StrategyState
    rounds_done: int
    seq: int
    """The last event that belongs to the rounds done."""
    config_digest: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What ``Progress`` knows beside the strategy's state, as plain values: measured ranges, the last update of each
    client that was summed, what was seen of each, epsilons, the server's ledger, tasks under way, the clock and the
    config."""


def save_checkpoint(folder: Path, checkpoint: Checkpoint, kept: Collection[int] = ()) -> None:
    """Write ``folder/latest.safetensors``; the one before becomes ``previous.safetensors``.

    Of older ones those of the rounds ``kept`` stay; any other is removed once the new one is there.
    """
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
    data = encode_tensors(tensors, fields)
    latest = folder / _LATEST
    if latest.exists():
        if kept:
            _set_aside(folder, kept)
        os.replace(latest, folder / _PREVIOUS)
    write_atomic(latest, hashlib.sha256(data).digest() + data)
    drop_unpublished(folder, kept)


def drop_unpublished(folder: Path, kept: Collection[int] = ()) -> None:
    """Remove what ``unpublished/`` has of all rounds but those ``kept``."""
    for path in (folder / _UNPUBLISHED).glob("*.safetensors"):
        if int(path.stem) not in kept:
            path.unlink()


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint; None when nothing was saved yet.

    Raises:
        RunFolderError: there are checkpoints and all of them are damaged.
    """
    paths = [path for path in (folder / _LATEST, folder / _PREVIOUS) if path.exists()]
    for path in paths:
        if (checkpoint := _read(path)) is not None:
            return checkpoint
    if paths:
        raise RunFolderError(f"{folder}: expected a whole checkpoint, got {len(paths)} damaged ones")
    return None


def checkpoint_of(folder: Path, round: int) -> Checkpoint | None:
    """The checkpoint that was written after ``round``, where it is still there and whole."""
    for path in (folder / _LATEST, folder / _PREVIOUS, _path_of(folder, round)):
        checkpoint = _read(path) if path.exists() else None
        if checkpoint is not None and checkpoint.rounds_done == round:
            return checkpoint
    return None


def _set_aside(folder: Path, kept: Collection[int]) -> None:
    """Rename the previous checkpoint, which is about to be replaced, where its round is one of those."""
    previous = folder / _PREVIOUS
    if previous.exists() and (round := _rounds_done(previous)) in kept:
        target = _path_of(folder, round)
        target.parent.mkdir(exist_ok=True)
        os.replace(previous, target)


def _rounds_done(path: Path) -> int:
    """What the header of a file says, without a look at its tensors; -1 where it cannot be read."""
    with path.open("rb") as file:
        file.seek(_DIGEST_BYTES)
        size = file.read(8)
        stated = int.from_bytes(size, "little")
        header = file.read(stated) if stated <= _HEADER_LIMIT_BYTES else b""
    with suppress(ValueError, KeyError, TypeError):
        return int(_fields(size + header)["rounds_done"])
    return -1


def _path_of(folder: Path, round: int) -> Path:
    return folder / _UNPUBLISHED / f"{round:04d}.safetensors"


def _read(path: Path) -> Checkpoint | None:
    """What a file holds; None where it is damaged."""
    content = path.read_bytes()
    digest, data = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return _parse(data) if hashlib.sha256(data).digest() == digest else None


def _parse(data: bytes) -> Checkpoint:
    fields = _fields(data)
    groups: dict[str, dict[str, FloatArray]] = {key: {} for key in (_MODEL, *(f"slot.{s}" for s in fields["slots"]))}
    for key, tensor in decode_tensors(data, _HEADER_LIMIT_BYTES).items():
        group, _, name = key.partition("/")
        groups[group][name] = tensor
    state = StrategyState(
        model=frozen(groups.pop(_MODEL)),
        version=fields["version"],
        slots={group.removeprefix("slot."): frozen(tensors) for group, tensors in groups.items()},
    )
    return Checkpoint(state, fields["rounds_done"], fields["seq"], fields["config_digest"], fields["facts"])


def _fields(data: bytes) -> dict[str, Any]:
    with suppress(ValueError):
        return decode_header(data, _HEADER_LIMIT_BYTES)
    # A run that an older version began: its header stands under another key.
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    fields: dict[str, Any] = json.loads(header["__metadata__"]["checkpoint"])
    return fields
