"""What travels over a trainer's socket: questions, replies and errors as bytes, in chunks, and never a pickle.

A request is a JSON header with the size of each of its items, then their chunks. A response is a JSON header that says
whether there is a reply or which error came, then the chunks of the reply. Neither Flower, torch nor numpy is needed
on either side, so the two ends may run on different versions of Python.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from fl_core import errors
from fl_core.errors import StonecropError, TrainerError, WireError
from fl_core.jsontext import parse_json
from fl_core.questions import Request

SERVICE = "stonecrop.Trainer"
SOCKET_KEY = "trainer-socket"
"""In the node's config of Flower, which a board alone decides: where its shells find the trainer's socket."""
STATUS = "status"
"""What a board's owner asks its trainer, beside the questions that a server asks."""
CHUNK_BYTES = 1 << 20
"""Below gRPC's limit of 4 MiB a message, so that the size of a model meets no limit."""
LARGEST_BYTES = 1 << 30
"""Most that one side takes from the other in one call: a model of 268M float32 values."""
_LONGEST_PATH_BYTES = 107
"""Longest path of a Unix socket on Linux."""


def address(socket: Path) -> str:
    """What gRPC is told to listen at or to call: ``socket``, through its opened folder where the path is too long.

    That folder stays open as long as the process lives, for gRPC comes back through it.

    Raises:
        OSError: the path is too long and its folder cannot be opened.
    """
    if len(os.fsencode(socket)) <= _LONGEST_PATH_BYTES:
        return f"unix:{socket}"
    folder = os.open(socket.parent, os.O_PATH | os.O_DIRECTORY)
    return f"unix:/proc/self/fd/{folder}/{socket.name}"


def send_request(request: Request) -> Iterator[bytes]:
    """The messages that carry a request; a header is sent for an empty one too."""
    yield json.dumps([len(item) for item in request]).encode()
    for item in request:
        yield from _in_chunks(item)


def read_request(messages: Iterator[bytes]) -> Request:
    """The items of a request.

    Raises:
        WireError: they cannot be read, or are more than ``LARGEST_BYTES``.
    """
    try:
        sizes = parse_json(next(messages))
        if not isinstance(sizes, list) or not all(isinstance(size, int) and size >= 0 for size in sizes):
            raise ValueError(f"expected sizes, got {sizes!r}")
    except (StopIteration, ValueError) as error:
        raise WireError(f"trainer socket: request cannot be read ({error})") from None
    if sum(sizes) > LARGEST_BYTES:
        raise _too_large()
    items = tuple(_exactly(size, messages) for size in sizes)
    if next(messages, None) is not None:
        raise WireError(f"trainer socket: expected a request of {sum(sizes)} bytes, got more")
    return items


def success(reply: bytes) -> Iterator[bytes]:
    """The response that carries a reply."""
    yield json.dumps({"error": None}).encode()
    yield from _in_chunks(reply)


def failure(error: StonecropError) -> Iterator[bytes]:
    """The response that says what went wrong."""
    yield json.dumps({"error": type(error).__name__, "text": str(error)}).encode()


def read_response(messages: Iterator[bytes]) -> bytes:
    """The reply to a call, or the trainer's own error raised on this side.

    Raises:
        StonecropError: whatever the trainer raised, of the same class.
        WireError: the response cannot be read.
    """
    try:
        header = parse_json(next(messages))
        name, text = header["error"], header.get("text", "")
    except (StopIteration, ValueError, KeyError, TypeError) as error:
        raise WireError(f"trainer socket: response cannot be read ({error})") from None
    if name is None:
        return _joined(messages)
    kind = getattr(errors, str(name), None)
    if isinstance(kind, type) and issubclass(kind, StonecropError):
        raise kind(text)
    raise TrainerError(f"{name}: {text}")


def _in_chunks(data: bytes) -> Iterator[bytes]:
    return (data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES))


def _exactly(size: int, messages: Iterator[bytes]) -> bytes:
    """The chunks of one item together again; each item begins with a chunk of its own."""
    whole = bytearray()
    while len(whole) < size:
        chunk = next(messages, None)
        if not chunk or len(whole) + len(chunk) > size:
            raise WireError(f"trainer socket: expected an item of {size} bytes, got {len(whole) + len(chunk or b'')}")
        whole += chunk
    return bytes(whole)


def _joined(messages: Iterator[bytes]) -> bytes:
    whole = bytearray()
    for chunk in messages:
        whole += chunk
        if len(whole) > LARGEST_BYTES:
            raise _too_large()
    return bytes(whole)


def _too_large() -> WireError:
    return WireError(f"trainer socket: expected at most {LARGEST_BYTES} bytes in a call, got more")
