"""What pydantic finds wrong with a file of fields (config, server, device): a line each, which names the field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from fl_core.config.walk import as_yaml

UNKNOWN_FIELD = "unexpected_keyword_argument"
"""Pydantic's code of a field that is none, which has no value to speak of."""
_MISSING_CODES = {"missing", "missing_argument"}


def described(error: ValidationError) -> Iterator[tuple[str, str]]:
    """(pydantic's code, line) of each problem."""
    for problem in error.errors():
        yield problem["type"], _describe(problem)


def _describe(problem: Any) -> str:
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    where = ".".join(str(step) for step in problem["loc"] if not _is_type_name(step))
    wrong = _wrong(problem)
    return f"{where}: {wrong}" if where else wrong  # the whole file has no field


def _wrong(problem: Any) -> str:
    if problem["type"] == UNKNOWN_FIELD:
        return "there is no such field"
    if problem["type"] in _MISSING_CODES:
        return "expected a value, got none"
    if problem["type"] == "string_type" and isinstance(problem["input"], (bool, int, float)):
        kind = "a truth value" if isinstance(problem["input"], bool) else "a number"
        return f"expected text, got {as_yaml(problem['input'])}, which is {kind} in YAML; put it in quotes"
    if problem["type"] == "string_type":
        return f"expected text, got {as_yaml(problem['input'])}"
    if problem["type"] == "int_from_float":
        return f"expected a whole number, got {as_yaml(problem['input'])}"
    if problem["type"] == "dataclass_type":
        return f"expected a section of keys and values, got {as_yaml(problem['input'])}"
    message = problem["msg"]
    expected = message[0].lower() + message[1:]
    return f"{expected.replace('input should be', 'expected')}, got {as_yaml(problem['input'])}"


def _is_type_name(step: object) -> bool:
    return isinstance(step, str) and (step.endswith("Section") or step == "str")
