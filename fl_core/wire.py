"""Records to Flower messages and back: the one place that knows how a plan, a model or an update travels.

A model and an update travel as safetensors in pieces of at most ``PIECE_BYTES``, each a record. To Flower each record
is an object, which costs a request to the SuperLink and is sent again alone where a connection breaks; an ArrayRecord
would be two objects a tensor. Flower keeps identical objects once. Everything that is read is checked: a message that
is not what it should be raises WireError and names who sent it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, RecordDict

from fl_core.errors import WireError
from fl_core.types import ClientInfo, DpTerms, FloatArray, RoundPlan, Tensors, check_version

PIECE_BYTES = 16 * 1024 * 1024
"""A quarter of what the gateway takes in one body."""

Pieces = Mapping[str, ConfigRecord]


def pack_task(plan: RoundPlan, model: Pieces) -> RecordDict:
    """A plan and the packed global model as the content of a message; many plans may share one model."""
    return RecordDict({"plan": ConfigRecord({"json": json.dumps(asdict(plan))}), **model})


def pack_tensors(tensors: Tensors) -> Pieces:
    """The tensors of a model; the same ones give the same bytes."""
    from safetensors.numpy import save

    return _pieces("model", save({name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}))


def unpack_tensors(content: RecordDict, sender: str) -> dict[str, FloatArray]:
    """The tensors of a message's model; they are not to be written to.

    Raises:
        WireError: there is none, or it cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(_joined(content, "model", sender))
    except (SafetensorError, TypeError, ValueError, KeyError) as error:
        raise WireError(f"message from {sender}: tensors cannot be read ({error})") from None


def unpack_plan(content: RecordDict, code_version: str) -> RoundPlan:
    """The plan of a message.

    Raises:
        WireError: there is none, or it was made by code of another version.
    """
    fields = _json_record(content, "plan", "server")
    check_version(fields, code_version)
    try:
        dp = fields.pop("dp")
        return RoundPlan(dp=None if dp is None else DpTerms(**dp), **fields)
    except (TypeError, KeyError) as error:
        raise WireError(f"plan from server: {error}") from None


def pack_update(encoded: bytes) -> RecordDict:
    """An encoded update as the content of a reply."""
    return RecordDict(dict(_pieces("update", encoded)))


def unpack_update(content: RecordDict, sender: str) -> bytes:
    """The encoded update of a reply.

    Raises:
        WireError: the reply holds none.
    """
    return _joined(content, "update", sender)


def pack_refusal(reason: str) -> RecordDict:
    """A client's word that it will not train, and why."""
    return RecordDict({"refused": ConfigRecord({"reason": reason})})


def refusal_of(content: RecordDict) -> str:
    """Why a client refused; empty when it did not."""
    record = content.get("refused")
    return str(record.get("reason", "")) if isinstance(record, ConfigRecord) else ""


def pack_info(info: ClientInfo) -> RecordDict:
    """What a client says of itself."""
    return RecordDict({"info": ConfigRecord({"json": json.dumps(asdict(info))})})


def unpack_info(content: RecordDict, sender: str) -> ClientInfo:
    """What a client said of itself.

    Raises:
        WireError: it cannot be read.
    """
    fields = _json_record(content, "info", sender)
    try:
        info = ClientInfo(**fields)
    except TypeError as error:
        raise WireError(f"info from {sender}: {error}") from None
    if not isinstance(info.client_id, str) or not isinstance(info.size_class, int) or info.size_class < 1:
        raise WireError(f"info from {sender}: expected a client_id and a size class of at least 1, got {fields}")
    return info


def pack_figures(figures: Mapping[str, Any]) -> RecordDict:
    """Figures of an evaluation, or noisy counts, as plain values."""
    return RecordDict({"figures": ConfigRecord({"json": json.dumps(figures)})})


def unpack_figures(content: RecordDict, sender: str) -> dict[str, Any]:
    """The figures of a reply.

    Raises:
        WireError: there are none.
    """
    return _json_record(content, "figures", sender)


def _pieces(name: str, data: bytes) -> Pieces:
    starts = range(0, max(len(data), 1), PIECE_BYTES)
    return {f"{name}.{n}": ConfigRecord({"bytes": data[at : at + PIECE_BYTES]}) for n, at in enumerate(starts)}


def _joined(content: RecordDict, name: str, sender: str) -> bytes:
    pieces: list[bytes] = []
    while (record := content.get(f"{name}.{len(pieces)}")) is not None or not pieces:
        data = record.get("bytes") if isinstance(record, ConfigRecord) else None
        if not isinstance(data, bytes):
            wanted = f"a record '{name}.{len(pieces)}' with bytes"
            raise WireError(f"message from {sender}: expected {wanted}, got {sorted(content)}")
        pieces.append(data)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _json_record(content: RecordDict, name: str, sender: str) -> dict[str, Any]:
    record = content.get(name)
    text = record.get("json") if isinstance(record, ConfigRecord) else None
    if not isinstance(text, str):
        raise WireError(f"message from {sender}: expected a record {name!r} with json, got {sorted(content)}")
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise WireError(f"message from {sender}: {name} is not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise WireError(f"message from {sender}: expected {name} to be an object, got {type(fields).__name__}")
    return fields
