"""One line of ``events.jsonl`` as an event: what every reader may rely on is looked at here, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fl_core.errors import RunFolderError

_NUMBER, _NUMBER_OR_NONE, _TEXT = (int, float), (int, float, type(None)), (str,)
_TABLE_OR_NONE, _WHOLE = (dict, type(None)), (int,)
_TYPES: Mapping[str, tuple[type, ...]] = {
    "seq": _WHOLE, "round": _WHOLE, "kind": _TEXT, "visibility": _TEXT, "run": _TEXT, "time": _NUMBER,
    "client_id": _TEXT, "reason": _TEXT, "format": _TEXT, "path": _TEXT, "strategy": _TEXT, "model": _TEXT,
    "clients": (list,), "cohort": (list,), "findings": (list,), "client_bits": (dict,), "rounds": _WHOLE,
    "rounds_done": _WHOLE, "uplink_bytes": _NUMBER, "downlink_bytes": _NUMBER, "seconds": _NUMBER, "virtual_s": _NUMBER,
    "bytes": _NUMBER, "bytes_float": _NUMBER_OR_NONE, "weight_bits": _NUMBER_OR_NONE, "examples": _NUMBER_OR_NONE,
    "epsilon": _NUMBER_OR_NONE, "epsilon_max": _NUMBER_OR_NONE, "user_epsilon": _NUMBER_OR_NONE,
    "accuracy_float": _NUMBER_OR_NONE, "accuracy_int8": _NUMBER_OR_NONE, "personal_score": _NUMBER_OR_NONE,
    "privacy": _TABLE_OR_NONE, "user_privacy": _TABLE_OR_NONE, "data": _TABLE_OR_NONE, "attack": _TABLE_OR_NONE,
    "initial": _TABLE_OR_NONE, "evaluation": _TABLE_OR_NONE, "parity": _TABLE_OR_NONE, "kernels": _TABLE_OR_NONE,
    "clipped": _TABLE_OR_NONE,
}  # fmt: skip
"""What a field of this name must be, in whatever event it stands."""
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "run_resumed": ("rounds_done",),
    "round_started": ("cohort",),
    "round_timed": ("virtual_s",),
    "round_finished": ("seconds", "evaluation", "epsilon_max"),
    "round_published": ("evaluation",),
    "run_finished": ("seconds",),
    "client_finished": ("client_id", "epsilon"),
    "client_failed": ("client_id", "reason"),
    "client_refused": ("client_id", "reason"),
    "client_rejected": ("client_id", "reason"),
    "client_missing": ("client_id", "reason"),
    "client_evaluated": ("client_id", "examples", "accuracy_float", "accuracy_int8"),
    "artifact_published": ("format", "path", "bytes", "bytes_float", "parity"),
    "artifact_vetoed": ("format", "reason"),
}
"""Fields without which nothing can be made of an event of this kind; older versions wrote fewer of the others."""


def parse_event(line: bytes, path: Path, number: int) -> Mapping[str, Any]:
    """The event that is line ``number`` of the log at ``path``, and its event ``number``.

    Raises:
        RunFolderError: it is no such event; the message names file, line, what was expected and what came.
    """
    try:
        event = _DECODER.decode(line.decode())
    except (ValueError, RecursionError):
        raise RunFolderError(f"{path}: line {number} is damaged") from None
    problem = _problem(event, number)
    if problem is not None:
        raise RunFolderError(f"{path}: line {number}: {problem}")
    return dict(event)


def _problem(event: object, number: int) -> str | None:
    """What makes it no event; None where nothing does."""
    if not isinstance(event, dict):
        return f"expected an event, got {_shown(event)}"
    for name in ("kind", "round", "seq", *_NEEDED.get(str(event.get("kind")), ())):
        if name not in event:
            return f"expected an event with {name}, got none"
    for name, value in event.items():
        types = _TYPES.get(name)
        if types is not None and not isinstance(value, types):
            words = " or ".join(_WORDS[each] for each in types if each is not int or float not in types)
            return f"{event['kind']}.{name}: expected {words}, got {_shown(value)}"
    return None if event["seq"] == number else f"expected event {number}, got event {event['seq']}"


_WORDS = {
    int: "a whole number", float: "a number", str: "a text", list: "a list", dict: "a table", type(None): "null",
}  # fmt: skip


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _refuse_constant(name: str) -> object:
    raise ValueError(f"no event holds {name}")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
