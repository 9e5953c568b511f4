"""Named tensors with a JSON header as bytes: the one form in which tensors are kept in files and sent to others.

The form is safetensors with the header under one key of its metadata, so it is deterministic (the same tensors and
header give the same bytes) and never a pickle. Whoever reads checks the stated size of the header before anything is
allocated for it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from fl_core.jsontext import parse_json
from fl_core.types import FloatArray, Tensors

HEADER_LIMIT_BYTES = 1 << 24
"""A longer header, names and shapes of the tensors included, is refused where nobody says how long it may be."""
_KEY = "header"


def encode_tensors(tensors: Tensors, header: Mapping[str, Any] | None = None) -> bytes:
    """The tensors, with ``header`` of plain values where there is one, as bytes."""
    from safetensors.numpy import save

    contiguous = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    return save(contiguous, metadata=None if header is None else {_KEY: json.dumps(header, sort_keys=True)})


def decode_tensors(data: bytes, header_limit: int = HEADER_LIMIT_BYTES) -> dict[str, FloatArray]:
    """The tensors in ``data``; they are not to be written to.

    Raises:
        ValueError: the bytes are no tensors; the message says what is wrong with them.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    _header_bytes(data, header_limit)
    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"expected tensors, got {len(data)} bytes ({error})") from None


def decode_header(data: bytes, header_limit: int = HEADER_LIMIT_BYTES) -> dict[str, Any]:
    """The header that ``encode_tensors`` was given; no tensor is read.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    size = _header_bytes(data, header_limit)
    try:
        header = parse_json(parse_json(data[8 : 8 + size])["__metadata__"][_KEY])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"expected a header with the tensors, got {len(data)} bytes ({error!r})") from None
    if not isinstance(header, dict):
        raise ValueError(f"expected the header to be an object, got {type(header).__name__}")
    return header


def _header_bytes(data: bytes, limit: int) -> int:
    """The stated size of the header, checked."""
    try:
        (size,) = struct.unpack("<Q", data[:8])
    except struct.error:
        raise ValueError(f"expected tensors, got {len(data)} bytes") from None
    if size > limit:
        raise ValueError(f"expected a header of at most {limit} bytes, got {size}")
    return int(size)
