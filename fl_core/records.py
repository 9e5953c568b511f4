"""The items of a message as bytes and back: a plan, a model, what a client says of itself, figures.

Only the two ends of a message read them; whoever is between hands the bytes on. Everything that is read is checked: an
item that is not what it should be raises WireError and names who sent it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any

from fl_core.client_id import client_id_problem
from fl_core.errors import WireError
from fl_core.jsontext import parse_json
from fl_core.tensorfile import decode_tensors
from fl_core.types import ClientInfo, DpTerms, FloatArray, RoundPlan, check_version

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_SERVER = "server"
_PLAN_FIELDS = RoundPlan.__dataclass_fields__.keys()
_TERM_FIELDS = DpTerms.__dataclass_fields__.keys()


def encode_plan(plan: RoundPlan) -> bytes:
    """A plan as JSON; equal plans give equal bytes."""
    return json.dumps(asdict(plan)).encode()


def decode_plan(data: bytes, code_version: str) -> RoundPlan:
    """The plan that ``encode_plan`` wrote on a server.

    Raises:
        WireError: it is none, or code of another version than ``code_version`` made it.
    """
    from pydantic import ValidationError

    fields = _read_object(data, "plan", _SERVER)
    check_version(fields, code_version)
    terms = fields.get("dp")
    unknown = fields.keys() - _PLAN_FIELDS
    unknown |= terms.keys() - _TERM_FIELDS if isinstance(terms, dict) else set()
    if unknown:
        raise WireError(f"plan from {_SERVER}: there is no such field: {', '.join(sorted(unknown))}")
    try:
        return _plans().validate_python(fields)
    except ValidationError as wrong:
        first = wrong.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise WireError(f"plan from {_SERVER}: {where}: {first['msg']}, got {first['input']!r}") from None


def decode_model(data: bytes, sender: str = _SERVER) -> dict[str, FloatArray]:
    """The tensors of a model; they are not to be written to.

    Raises:
        WireError: the bytes hold none.
    """
    try:
        return decode_tensors(data)
    except ValueError as error:
        raise WireError(f"message from {sender}: tensors cannot be read ({error})") from None


def encode_info(info: ClientInfo) -> bytes:
    """What a client says of itself, as JSON."""
    return json.dumps(asdict(info)).encode()


def decode_info(data: bytes, sender: str) -> ClientInfo:
    """What a client said of itself.

    Raises:
        WireError: it cannot be read, or lacks a client_id or a size class of at least 1.
    """
    fields = _read_object(data, "info", sender)
    try:
        info = ClientInfo(**fields)
    except TypeError as error:
        raise WireError(f"info from {sender}: {error}") from None
    if problem := client_id_problem(info.client_id):
        raise WireError(f"info from {sender}: client_id: {problem}")
    if not isinstance(info.size_class, int) or info.size_class < 1:
        raise WireError(f"info from {sender}: expected a size class of at least 1, got {fields}")
    return info


def encode_figures(figures: Mapping[str, Any]) -> bytes:
    """Figures by name, as JSON."""
    return json.dumps(figures).encode()


def decode_figures(data: bytes, sender: str) -> dict[str, Any]:
    """Figures by name, of which nothing is known yet but that they are plain values.

    Raises:
        WireError: they cannot be read.
    """
    return _read_object(data, "figures", sender)


@cache
def _plans() -> TypeAdapter[RoundPlan]:
    from pydantic import TypeAdapter

    return TypeAdapter(RoundPlan)


def _read_object(data: bytes, name: str, sender: str) -> dict[str, Any]:
    try:
        fields = parse_json(data)
    except ValueError as error:
        raise WireError(f"message from {sender}: {name} is not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise WireError(f"message from {sender}: expected {name} to be an object, got {type(fields).__name__}")
    return fields
