"""What travels over a trainer's socket: tasks, results and errors as bytes, in chunks, and never a pickle.

A task is one safetensors file: the global model, with the plan as JSON in its header. A response is a JSON header
that says whether there is a result or which error came, then the chunks of the result. Neither Flower nor torch is
needed on either side, so the two ends may run on different versions of Python.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from fl_core import errors
from fl_core.errors import StonecropError, TrainerError, WireError
from fl_core.types import ClientInfo, RoundPlan, Tensors, check_version

SERVICE = "stonecrop.Trainer"
SOCKET_KEY = "trainer-socket"
"""In the node's config of Flower, which a board alone decides: where its shells find the trainer's socket."""
METHODS = ("info", "ranges", "train", "evaluate", "status")
CHUNK_BYTES = 1 << 20
"""Below gRPC's limit of 4 MiB a message, so that the size of a model meets no limit."""
LARGEST_BYTES = 1 << 30
"""Most that one side takes from the other in one call: a model of 268M float32 values."""
_HEADER_LIMIT_BYTES = 1 << 24
_LONGEST_PATH_BYTES = 107
"""Of a Unix socket on Linux."""


def address(socket: Path) -> str:
    """What gRPC is told to listen at or to call: ``socket``, through its opened folder where the path is too long.

    That folder stays open as long as the process lives, because gRPC comes back through it.

    Raises:
        OSError: the path is too long and its folder cannot be opened.
    """
    if len(os.fsencode(socket)) <= _LONGEST_PATH_BYTES:
        return f"unix:{socket}"
    folder = os.open(socket.parent, os.O_PATH | os.O_DIRECTORY)
    return f"unix:/proc/self/fd/{folder}/{socket.name}"


def in_chunks(data: bytes) -> Iterator[bytes]:
    """``data`` in pieces that fit a message; at least one, so that an empty request is a request too."""
    yield data[:CHUNK_BYTES]
    for at in range(CHUNK_BYTES, len(data), CHUNK_BYTES):
        yield data[at : at + CHUNK_BYTES]


def joined(chunks: Iterable[bytes]) -> bytes:
    """The pieces together again.

    Raises:
        WireError: they are more than ``LARGEST_BYTES``.
    """
    whole = bytearray()
    for chunk in chunks:
        whole += chunk
        if len(whole) > LARGEST_BYTES:
            raise WireError(f"trainer socket: expected at most {LARGEST_BYTES} bytes in a call, got more")
    return bytes(whole)


def encode_task(plan: RoundPlan, model: Tensors) -> bytes:
    """A plan and the global model as bytes; the same task gives the same bytes."""
    from safetensors.numpy import save

    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in model.items()}
    return save(tensors, metadata={"plan": json.dumps(asdict(plan), sort_keys=True)})


def decode_task(data: bytes, code_version: str) -> tuple[RoundPlan, Tensors]:
    """The plan and the model of a task.

    Raises:
        WireError: the bytes are no task, or the plan was made by code of another version.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        (header_bytes,) = struct.unpack("<Q", data[:8])
        if header_bytes > _HEADER_LIMIT_BYTES:
            raise ValueError(f"a header of {header_bytes} bytes")
        fields = json.loads(json.loads(data[8 : 8 + header_bytes])["__metadata__"]["plan"])
        check_version(fields, code_version)
        return TypeAdapter(RoundPlan).validate_python(fields), load(data)
    except ValidationError as wrong:
        first = wrong.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise WireError(f"plan: {where}: {first['msg']}, got {first['input']!r}") from None
    except (ValueError, KeyError, TypeError, AttributeError, struct.error, SafetensorError) as error:
        raise WireError(f"task: expected a plan with a model, got {len(data)} bytes ({error})") from None


def encode_info(info: ClientInfo) -> bytes:
    """What a client says of itself, as JSON."""
    return json.dumps(asdict(info)).encode()


def decode_info(data: bytes) -> ClientInfo:
    """What a client said of itself.

    Raises:
        WireError: it cannot be read.
    """
    try:
        return TypeAdapter(ClientInfo).validate_json(data)
    except ValidationError as wrong:
        raise WireError(f"trainer socket: info cannot be read ({wrong.errors()[0]['msg']})") from None


def success(body: bytes) -> Iterator[bytes]:
    """The response that carries a result."""
    yield json.dumps({"error": None}).encode()
    yield from in_chunks(body)


def failure(error: StonecropError) -> Iterator[bytes]:
    """The response that says what went wrong."""
    yield json.dumps({"error": type(error).__name__, "text": str(error)}).encode()


def read_response(messages: Iterator[bytes]) -> bytes:
    """The result of a call, or the trainer's own error raised on this side.

    Raises:
        StonecropError: whatever the trainer raised, of the same class.
        WireError: the response cannot be read.
    """
    try:
        header = json.loads(next(messages))
        name, text = header["error"], header.get("text", "")
    except (StopIteration, ValueError, KeyError, TypeError) as error:
        raise WireError(f"trainer socket: response cannot be read ({error})") from None
    if name is None:
        return joined(messages)
    kind = getattr(errors, str(name), None)
    if isinstance(kind, type) and issubclass(kind, StonecropError):
        raise kind(text)
    raise TrainerError(f"{name}: {text}")
