"""A client's memory between rounds as bytes: what a strategy keeps on its client, by slot and tensor name.

The ledger stores it in the same transaction as the reply that it follows from, and makes it current only once the
server says that this reply was accepted.
"""

from __future__ import annotations

from collections.abc import Mapping

from fl_core.errors import LedgerError
from fl_core.types import FloatArray, Tensors


def encode_memory(memory: Mapping[str, Tensors]) -> bytes | None:
    """The memory as safetensors; None for an empty one."""
    from safetensors.numpy import save

    tensors = {f"{slot}/{name}": tensor for slot, group in memory.items() for name, tensor in group.items()}
    return save(tensors) if tensors else None


def decode_memory(data: bytes | None) -> dict[str, dict[str, FloatArray]]:
    """What ``encode_memory`` made.

    Raises:
        LedgerError: the bytes are no memory.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    memory: dict[str, dict[str, FloatArray]] = {}
    try:
        tensors = {} if data is None else load(data)
    except SafetensorError as error:
        raise LedgerError(f"client state: expected tensors, got {len(data or b'')} bytes ({error})") from None
    for key, tensor in tensors.items():
        slot, _, name = key.partition("/")
        memory.setdefault(slot, {})[name] = tensor
    return memory
