"""The one encoding of a client's update: bytes that a ledger keeps and a message carries, and never a pickle.

The format is safetensors with the record's plain fields as JSON in its header, so it is deterministic: the same
update gives the same bytes.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from fl_core.errors import WireError
from fl_core.types import SCHEMA_VERSION, ClientUpdate, FloatArray, Part

_HEADER_LIMIT_BYTES = 1_000_000


def encode_update(update: ClientUpdate) -> bytes:
    """The update as bytes."""
    from safetensors.numpy import save

    tensors = {f"{part}/{name}": t for part, value in update.parts.items() for name, t in value.tensors.items()}
    fields = {
        "schema_version": SCHEMA_VERSION,
        "task_id": update.task_id,
        "client_id": update.client_id,
        "base_version": update.base_version,
        "weight": update.weight,
        "local_steps": update.local_steps,
        "epsilon": update.epsilon,
        "simulated": dict(update.simulated),
        "parts": {
            name: {"dp_origin": p.dp_origin, "codec": p.codec, "clip_group": p.clip_group}
            for name, p in update.parts.items()
        },
    }
    return save(tensors, metadata={"update": json.dumps(fields, sort_keys=True)})


def decode_update(data: bytes, owner: str) -> ClientUpdate:
    """The update that ``encode_update`` made.

    Raises:
        WireError: the bytes are no update; the message names ``owner``.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        (header_bytes,) = struct.unpack("<Q", data[:8])
        if header_bytes > _HEADER_LIMIT_BYTES:
            raise ValueError(f"a header of {header_bytes} bytes")
        header = json.loads(data[8 : 8 + header_bytes])
        fields = json.loads(header["__metadata__"]["update"])
        return _build(fields, load(data))
    except (ValueError, KeyError, TypeError, AttributeError, struct.error, SafetensorError) as error:
        raise WireError(f"update from {owner}: expected an encoded update, got {len(data)} bytes ({error})") from None


def _build(fields: dict[str, Any], tensors: dict[str, FloatArray]) -> ClientUpdate:
    if fields["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"expected schema version {SCHEMA_VERSION}, got {fields['schema_version']}")
    parts: dict[str, Part] = {}
    for part, terms in fields["parts"].items():
        own = {name.partition("/")[2]: t for name, t in tensors.items() if name.partition("/")[0] == part}
        parts[part] = Part(own, terms["dp_origin"], str(terms["codec"]), str(terms["clip_group"]))
    weight, steps = fields["weight"], fields["local_steps"]
    if not isinstance(weight, int) or not isinstance(steps, int):
        raise ValueError(f"expected integer weight and local_steps, got {weight!r} and {steps!r}")
    return ClientUpdate(
        task_id=str(fields["task_id"]),
        client_id=str(fields["client_id"]),
        base_version=int(fields["base_version"]),
        parts=parts,
        weight=weight,
        local_steps=steps,
        epsilon=None if fields["epsilon"] is None else float(fields["epsilon"]),
        simulated={str(k): float(v) for k, v in fields["simulated"].items()},
    )
