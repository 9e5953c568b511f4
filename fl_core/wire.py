"""Items to Flower's records and back: the one place that knows how a plan, a model or an update travels.

Bytes travel in pieces of at most ``PIECE_BYTES``, each a record. To Flower each record is an object, which costs a
request to the SuperLink and is sent again alone where a connection breaks; an ArrayRecord would be two objects a
tensor. Flower keeps identical objects once. A message that lacks an item raises WireError and names who sent it; what
is in an item, ``fl_core.records`` and ``fl_core.update`` know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from flwr.app import ConfigRecord, RecordDict

from fl_core.errors import WireError
from fl_core.questions import FIGURES, MODEL, PLAN, UPDATE, Item, Question, Request
from fl_core.records import decode_figures, encode_plan
from fl_core.tensorfile import encode_tensors
from fl_core.types import RoundPlan, Tensors

PIECE_BYTES = 16 * 1024 * 1024
"""A quarter of what the gateway takes in one body."""

Content: TypeAlias = RecordDict
"""What a message carries, opaque to everyone but this module."""
Pieces = Mapping[str, ConfigRecord]


def pack_nothing() -> Content:
    """The content of a question that comes without any item."""
    return RecordDict()


def pack_task(plan: RoundPlan, model: Pieces) -> Content:
    """A plan and the packed global model as the content of a message; many plans may share one model."""
    return RecordDict({**_pieces(PLAN, encode_plan(plan)), **model})


def pack_tensors(tensors: Tensors) -> Pieces:
    """The tensors of a model; the same ones give the same bytes."""
    return _pieces(MODEL, encode_tensors({name: tensors[name] for name in sorted(tensors)}))


def unpack_request(question: Question, content: Content) -> Request:
    """The bytes of every item that a question comes with.

    Raises:
        WireError: one is missing.
    """
    return tuple(_joined(content, item, "server") for item in question.request)


def pack_reply(question: Question, data: bytes) -> Content:
    """The reply to a question as the content of a message."""
    return RecordDict(dict(_pieces(question.reply, data)))


def unpack_reply(question: Question, content: Content, sender: str) -> bytes:
    """The bytes of a reply.

    Raises:
        WireError: the content holds none.
    """
    return _joined(content, question.reply, sender)


def unpack_update(content: Content, sender: str) -> bytes:
    """The encoded update of a reply.

    Raises:
        WireError: the reply holds none.
    """
    return _joined(content, UPDATE, sender)


def unpack_figures(content: Content, sender: str) -> dict[str, Any]:
    """The figures of a reply.

    Raises:
        WireError: there are none, or the client refused them; then with its reason.
    """
    if refusal := refusal_of(content):
        raise WireError(refusal)
    return decode_figures(_joined(content, FIGURES, sender), sender)


def pack_refusal(reason: str) -> Content:
    """A client's word that it will not answer, and why."""
    return RecordDict({"refused": ConfigRecord({"reason": reason})})


def refusal_of(content: Content) -> str:
    """Why a client refused; empty when it did not."""
    record = content.get("refused")
    return str(record.get("reason", "")) if isinstance(record, ConfigRecord) else ""


def _pieces(item: Item, data: bytes) -> Pieces:
    if item.form == "json":
        return {item.name: ConfigRecord({"json": data.decode()})}
    starts = range(0, max(len(data), 1), PIECE_BYTES)
    return {f"{item.name}.{n}": ConfigRecord({"bytes": data[at : at + PIECE_BYTES]}) for n, at in enumerate(starts)}


def _joined(content: Content, item: Item, sender: str) -> bytes:
    if item.form == "json":
        return _text(content, item.name, sender).encode()
    pieces: list[bytes] = []
    while (record := content.get(f"{item.name}.{len(pieces)}")) is not None or not pieces:
        data = record.get("bytes") if isinstance(record, ConfigRecord) else None
        if not isinstance(data, bytes):
            wanted = f"a record '{item.name}.{len(pieces)}' with bytes"
            raise WireError(f"message from {sender}: expected {wanted}, got {sorted(content)}")
        pieces.append(data)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _text(content: Content, name: str, sender: str) -> str:
    record = content.get(name)
    text = record.get("json") if isinstance(record, ConfigRecord) else None
    if not isinstance(text, str):
        raise WireError(f"message from {sender}: expected a record {name!r} with json, got {sorted(content)}")
    return text
