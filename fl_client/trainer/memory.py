"""A client's memory between rounds as bytes: what a strategy keeps on its client, by slot and tensor name.

The ledger stores it in the same transaction as the reply that it follows from, and makes it current only once the
server says that this reply was accepted.
"""

from __future__ import annotations

from collections.abc import Mapping

from fl_core.errors import LedgerError
from fl_core.tensorfile import decode_tensors, encode_tensors
from fl_core.types import FloatArray, Tensors


def encode_memory(memory: Mapping[str, Tensors]) -> bytes | None:
    """The memory with every tensor under ``slot/name``; None for an empty one."""
    tensors = {f"{slot}/{name}": tensor for slot, group in memory.items() for name, tensor in group.items()}
    return encode_tensors(tensors) if tensors else None


def decode_memory(data: bytes | None) -> dict[str, dict[str, FloatArray]]:
    """What ``encode_memory`` made.

    Raises:
        LedgerError: the bytes are no memory.
    """
    memory: dict[str, dict[str, FloatArray]] = {}
    try:
        tensors = {} if data is None else decode_tensors(data)
    except ValueError as error:
        raise LedgerError(f"client state: {error}") from None
    for key, tensor in tensors.items():
        slot, _, name = key.partition("/")
        memory.setdefault(slot, {})[name] = tensor
    return memory
