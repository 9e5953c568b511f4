"""What goes into a trainer's socket comes out of it, in any number of chunks, or is refused in words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_client.shell import protocol
from fl_core.errors import PolicyError, WireError


@given(st.lists(st.binary(max_size=40), max_size=4), st.integers(1, 50))
def test_a_request_comes_out_item_by_item_however_it_is_cut(items, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "CHUNK_BYTES", chunk)
        messages = list(protocol.send_request(tuple(items)))
    assert all(len(message) <= chunk for message in messages[1:])
    assert protocol.read_request(iter(messages)) == tuple(items)


@given(st.binary(max_size=60), st.integers(1, 20))
def test_a_reply_comes_out_however_it_is_cut(reply, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "CHUNK_BYTES", chunk)
        messages = list(protocol.success(reply))
    assert protocol.read_response(iter(messages)) == reply


def test_an_error_is_raised_again_as_what_it_was():
    with pytest.raises(PolicyError, match="not on this device"):
        protocol.read_response(protocol.failure(PolicyError("not on this device")))


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "request cannot be read"),
        ([b"no sizes"], "request cannot be read"),
        ([b'{"size": 3}'], "expected sizes"),
        ([b"[-1]"], "expected sizes"),
        ([b"[4]", b"abc"], "expected an item of 4 bytes, got 3"),
        ([b"[4]", b"abcde"], "expected an item of 4 bytes, got 5"),
        ([b"[3]", b"abc", b"d"], "expected a request of 3 bytes, got more"),
    ],
)
def test_a_request_that_is_not_what_its_header_says_is_refused(messages, words):
    with pytest.raises(WireError, match=words):
        protocol.read_request(iter(messages))


def test_what_is_too_large_is_refused_before_it_is_taken(monkeypatch):
    monkeypatch.setattr(protocol, "LARGEST_BYTES", 10)

    def endless() -> Iterator[bytes]:
        yield b"[6, 6]"
        raise AssertionError("a chunk was taken")

    with pytest.raises(WireError, match="at most 10 bytes"):
        protocol.read_request(endless())
    with pytest.raises(WireError, match="at most 10 bytes"):
        protocol.read_response(protocol.success(b"x" * 11))


@pytest.mark.parametrize("read", [protocol.read_request, protocol.read_response])
def test_a_header_that_is_nested_too_deeply_is_refused(read):
    with pytest.raises(WireError, match="nested too deeply"):
        read(iter([b"[" * 200_000]))
