"""Walks a config's plain values beside the dataclasses that they are to become: which key is what, and what no key is.

Types of values are pydantic's to check. Here stands what it lets through and no field of a config can mean: a truth
value where a number belongs, and numbers that are none.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any


def unknown_keys(plain: Mapping[str, Any], section: type, prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    """Every dotted key that ``section`` has not, with the keys that are known there."""
    hints = typing.get_type_hints(section)
    for key, value in plain.items():
        if key not in hints:
            yield f"{prefix}{key}", list(hints)
            continue
        inner = _section_of(hints[key])
        parts = {f"{at}.": item for at, item in enumerate(value)} if isinstance(value, list) else {"": value}
        for at, part in parts.items():
            if inner is not None and isinstance(part, Mapping):
                yield from unknown_keys(part, inner, f"{prefix}{key}.{at}")


def no_numbers(plain: object, annotation: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, problem) of each truth value where a number belongs, and of each number that is not finite."""
    options = _options(annotation)
    if isinstance(plain, bool):
        if {int, float} & {*options} and bool not in options:
            yield where, f"expected a number, got {as_yaml(plain)}"
    elif isinstance(plain, float) and not math.isfinite(plain):
        yield where, f"expected a finite number, got {as_yaml(plain)}"
    elif isinstance(plain, Mapping):
        section = _section_of(annotation)
        hints = typing.get_type_hints(section) if section else {}
        values = typing.get_args(annotation)[1] if typing.get_origin(annotation) not in (None, tuple, *_UNIONS) else Any
        for key, value in plain.items():
            yield from no_numbers(value, hints.get(key, Any if section else values), f"{where}.{key}" if where else key)
    elif isinstance(plain, (list, tuple)):
        for at, item in enumerate(plain):
            yield from no_numbers(item, Any, f"{where}.{at}")


def is_text(key: str, section: type) -> bool:
    """Whether the field at a dotted key takes text and no other scalar."""
    return {*_options(_annotation(key, section))} - {type(None)} == {str}


def is_section(key: str, section: type) -> bool:
    """Whether a dotted key names a section, whose keys are known, and not a mapping with keys of the user's."""
    return _section_of(_annotation(key, section)) is not None


def sections_with(name: str, section: type) -> list[str]:
    """The sections of ``section`` that have a key of that name."""
    inner = {key: _section_of(annotation) for key, annotation in typing.get_type_hints(section).items()}
    return [key for key, kind in inner.items() if kind is not None and name in typing.get_type_hints(kind)]


def _annotation(key: str, section: type) -> Any:
    """What a dotted key may hold; None where there is no such key."""
    first, _, rest = key.partition(".")
    annotation = typing.get_type_hints(section).get(first)
    inner = _section_of(annotation)
    if not rest:
        return annotation
    return None if inner is None else _annotation(rest, inner)


def as_yaml(value: object) -> str:
    """A scalar in the words of a YAML file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: ".inf", -math.inf: "-.inf"}.get(value, ".nan")
    return repr(value)


_UNIONS = (UnionType, typing.Union)


def _options(annotation: Any) -> tuple[Any, ...]:
    return typing.get_args(annotation) if typing.get_origin(annotation) in _UNIONS else (annotation,)


def _section_of(annotation: Any) -> type | None:
    """The dataclass that an annotation stands for, optional or not, or that of the items of a tuple."""
    if typing.get_origin(annotation) is tuple:
        return _section_of(typing.get_args(annotation)[0])
    options = (option for option in _options(annotation) if dataclasses.is_dataclass(option))
    return next(options, None)  # type: ignore[return-value]
