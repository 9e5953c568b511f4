"""An update survives its encoding bit for bit, and no other bytes are taken for one."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.errors import WireError
from fl_core.tensorfile import decode_header, decode_tensors, encode_tensors
from fl_core.types import ClientUpdate, Part
from fl_core.update import decode_update, encode_update


def an_update() -> ClientUpdate:
    tensors = {"w": np.array([[1.0, np.nan]], dtype=np.float32), "a.b": np.zeros(0, dtype=np.float32)}
    return ClientUpdate("t", "client-1", 3, {"delta": Part(tensors, "dpsgd")}, 1, 4, 1.5, {"train_loss": 0.5})


def test_update_comes_back_bit_for_bit():
    encoded = encode_update(an_update())
    decoded = decode_update(encoded, "client-1")
    assert encode_update(decoded) == encoded
    assert decoded.parts["delta"].tensors["w"].tobytes() == an_update().parts["delta"].tensors["w"].tobytes()
    assert (decoded.weight, decoded.local_steps, decoded.epsilon) == (1, 4, 1.5)


@given(st.binary(max_size=200))
def test_noise_is_no_update(data):
    with pytest.raises(WireError, match="update from client-1"):
        decode_update(data, "client-1")


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_changed_byte_never_raises_anything_but_a_wire_error(position, value):
    encoded = bytearray(encode_update(an_update()))
    encoded[position % len(encoded)] = value
    outcome: object
    try:
        outcome = decode_update(bytes(encoded), "client-1")
    except WireError as error:
        outcome = str(error)
    assert isinstance(outcome, ClientUpdate) or "client-1" in str(outcome)


def test_a_huge_header_is_refused_before_it_is_read():
    with pytest.raises(WireError, match="header"):
        decode_update((10**9).to_bytes(8, "little") + b"{}", "client-1")


NESTED = "[" * 200_000


@pytest.mark.parametrize(
    "change",
    [
        {"base_version": float("inf")},
        {"epsilon": 10**400},
        {"epsilon": float("nan")},
        {"epsilon": float("inf")},
        {"simulated": {"train_loss": float("nan")}},
        {"simulated": {"train_loss": 10**400}},
    ],
)
def test_figures_that_no_event_can_hold_are_no_update(change):
    encoded = encode_update(an_update())
    other = encode_tensors(decode_tensors(encoded), {**decode_header(encoded), **change})
    with pytest.raises(WireError, match="update from client-1"):
        decode_update(other, "client-1")


def test_a_loss_that_is_not_finite_is_told_as_such():
    update = replace(an_update(), simulated={"examples": 3.0, "train_loss": float("nan")})
    says = r"^update from client-1: expected a finite train_loss, got nan; look at the task's example_loss, or lower"
    with pytest.raises(WireError, match=says):
        decode_update(encode_update(update), "client-1")


@pytest.mark.parametrize("header", [NESTED, json.dumps({"__metadata__": {"header": NESTED}})])
def test_a_header_that_is_nested_too_deeply_is_no_update(header):
    with pytest.raises(WireError, match="nested too deeply"):
        decode_update(len(header).to_bytes(8, "little") + header.encode(), "client-1")
