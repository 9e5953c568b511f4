"""The one encoding of a client's update: bytes that a ledger keeps and a message carries, and never a pickle.

The tensors of all parts stand under ``part/name``, the record's plain fields in the header, so it is deterministic:
the same update gives the same bytes.
"""

from __future__ import annotations

import math
from typing import Any

from fl_core.errors import WireError
from fl_core.tensorfile import decode_header, decode_tensors, encode_tensors
from fl_core.types import SCHEMA_VERSION, ClientUpdate, Part, Tensors

_HEADER_LIMIT_BYTES = 1_000_000
"""A client says how long its header is, and is not trusted with more."""
_WHENCE = "look at the task's example_loss, or lower clients.optimizer.learning_rate"
"""What figures of a client's training that are not finite come from."""


def encode_update(update: ClientUpdate) -> bytes:
    """The update as bytes."""
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
        "parts": {name: part.dp_origin for name, part in update.parts.items()},
    }
    return encode_tensors(tensors, fields)


def decode_update(data: bytes, owner: str) -> ClientUpdate:
    """The update that ``encode_update`` made.

    Raises:
        WireError: the bytes are no update; the message names ``owner``.
    """
    try:
        update = _build(decode_header(data, _HEADER_LIMIT_BYTES), decode_tensors(data, _HEADER_LIMIT_BYTES))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise WireError(f"update from {owner}: expected an encoded update, got {len(data)} bytes ({error})") from None
    for name, figure in update.simulated.items():
        if not math.isfinite(figure):
            raise WireError(f"update from {owner}: expected a finite {name}, got {figure}; {_WHENCE}")
    return update


def _build(fields: dict[str, Any], tensors: Tensors) -> ClientUpdate:
    if fields["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"expected schema version {SCHEMA_VERSION}, got {fields['schema_version']}")
    parts: dict[str, Part] = {}
    for part, origin in fields["parts"].items():
        own = {name.partition("/")[2]: t for name, t in tensors.items() if name.partition("/")[0] == part}
        parts[part] = Part(own, origin)
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
        epsilon=None if fields["epsilon"] is None else _finite("epsilon", fields["epsilon"]),
        simulated={str(name): float(figure) for name, figure in fields["simulated"].items()},
    )


def _finite(name: str, value: Any) -> float:
    figure = float(value)
    if not math.isfinite(figure):
        raise ValueError(f"expected a finite {name}, got {figure}")
    return figure
