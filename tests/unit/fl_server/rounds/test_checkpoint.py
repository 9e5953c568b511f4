"""A checkpoint gives back every bit, and a damaged newest one falls back to the one before it."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from fl_core.errors import RunFolderError
from fl_core.tree import digest
from fl_server.rounds.checkpoint import (
    Checkpoint,
    checkpoint_of,
    drop_unpublished,
    load_checkpoint,
    save_checkpoint,
)
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


def test_a_checkpoint_that_an_older_version_wrote_is_read(tmp_path):
    from safetensors.numpy import save

    fields = {"version": 3, "slots": [], "rounds_done": 3, "seq": 30, "config_digest": "abc", "facts": {"ranges": {}}}
    tensors = {"model/layer.weight": np.ones((2, 3), np.float32)}
    data = save(tensors, metadata={"checkpoint": json.dumps(fields, sort_keys=True)})
    (tmp_path / "latest.safetensors").write_bytes(hashlib.sha256(data).digest() + data)
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert (loaded.rounds_done, loaded.seq, loaded.state.version, loaded.facts) == (3, 30, 3, {"ranges": {}})
    assert loaded.state.model["layer.weight"].tolist() == [[1.0] * 3] * 2


def test_rounds_without_their_artefacts_keep_their_checkpoints_until_they_have_them(tmp_path):
    for done, kept in ((1, {1}), (2, {1, 2}), (3, {1, 2, 3}), (4, {2, 3, 4}), (5, {2, 3, 4, 5})):
        save_checkpoint(tmp_path, checkpoint(done), kept)
    assert checkpoint_of(tmp_path, 1) is None
    for done in (2, 3, 4, 5):
        found = checkpoint_of(tmp_path, done)
        assert found is not None
        assert digest(found.state.model) == digest(checkpoint(done).state.model)
    drop_unpublished(tmp_path)
    assert [done for done in range(1, 6) if checkpoint_of(tmp_path, done)] == [4, 5]


def test_the_facts_of_a_large_fleet_come_back(tmp_path):
    seen = {f"client-{number:06d}": "x" * 180 for number in range(100_000)}
    state = StrategyState({"w": np.zeros(1, dtype=np.float32)}, 1, {})
    save_checkpoint(tmp_path, Checkpoint(state, 1, 10, "abc", {"seen": seen}))
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded.facts["seen"] == seen


@pytest.mark.parametrize("header", [b"\xff" * 8, (1 << 60).to_bytes(8, "little"), (2).to_bytes(8, "little") + b"[]"])
def test_a_damaged_checkpoint_is_replaced_while_others_are_kept(tmp_path, header):
    save_checkpoint(tmp_path, checkpoint(1))
    save_checkpoint(tmp_path, checkpoint(2))
    previous = tmp_path / "previous.safetensors"
    previous.write_bytes(previous.read_bytes()[:32] + header)
    save_checkpoint(tmp_path, checkpoint(3), kept={1, 2})
    assert [found.rounds_done for n in (2, 3) if (found := checkpoint_of(tmp_path, n))] == [2, 3]
