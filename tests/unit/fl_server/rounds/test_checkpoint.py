"""A checkpoint gives back every bit, and a damaged newest one falls back to the one before it."""

from __future__ import annotations

import numpy as np
import pytest

from fl_core.errors import RunFolderError
from fl_core.tree import digest
from fl_server.rounds.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from strategies.base import StrategyState


def checkpoint(rounds_done: int) -> Checkpoint:
    model = {"layer.weight": np.full((2, 3), rounds_done + 0.1, dtype=np.float32)}
    slots = {"velocity": {"layer.weight": np.full((2, 3), -1.0, dtype=np.float32)}}
    return Checkpoint(StrategyState(model, rounds_done, slots), rounds_done, 10 * rounds_done, "abc", {"ranges": {}})


def test_nothing_saved_gives_nothing(tmp_path):
    assert load_checkpoint(tmp_path) is None


def test_every_bit_comes_back(tmp_path):
    save_checkpoint(tmp_path, checkpoint(4))
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert (loaded.rounds_done, loaded.seq, loaded.config_digest, loaded.facts) == (4, 40, "abc", {"ranges": {}})
    assert digest(loaded.state.model) == digest(checkpoint(4).state.model)
    assert digest(loaded.state.slots["velocity"]) == digest(checkpoint(4).state.slots["velocity"])


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(tmp_path, damage):
    save_checkpoint(tmp_path, checkpoint(1))
    save_checkpoint(tmp_path, checkpoint(2))
    latest = tmp_path / "latest.safetensors"
    if damage is None:
        latest.unlink()
    else:
        latest.write_bytes(damage)
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded.rounds_done == 1


def test_a_flipped_bit_is_noticed(tmp_path):
    save_checkpoint(tmp_path, checkpoint(1))
    latest = tmp_path / "latest.safetensors"
    content = bytearray(latest.read_bytes())
    content[-1] ^= 1
    latest.write_bytes(bytes(content))
    with pytest.raises(RunFolderError, match="damaged"):
        load_checkpoint(tmp_path)
