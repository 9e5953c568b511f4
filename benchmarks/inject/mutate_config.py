"""One seeded change of a config as people make them: a wrong value, a wrong type, a key misspelt, gone or moved."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

VALUES: tuple[Any, ...] = (
    0, 1, -1, 2, 7, 0.5, -0.5, 1e-9, 1e9, 1e30, float("inf"), float("nan"), True, False, None, "", "x", "007", "1e3",
    "../outside", [], [1], {}, {"name": "x"},
)  # fmt: skip
"""What a leaf or a whole section is replaced by."""
LONG = {"rounds", "local_epochs", "local_steps", "clients", "width", "shops"}
"""Keys of numbers that make a run long or large because its user says so; they get none of the large values."""


def mutate(plain: dict[str, Any], rng: random.Random) -> tuple[dict[str, Any], str]:
    """A changed copy of a config's plain values, and the change in words."""
    changed = copy.deepcopy(plain)
    section, key = rng.choice(sorted(_places(changed), key=lambda place: (place[2], str(place[1]))))[:2]
    where = next(path for at, name, path in _places(changed) if at is section and name == key)
    kind = rng.choice(("value", "value", "value", "value", "value", "gone", "misspelt", "moved"))
    if kind == "gone":
        del section[key]
        return changed, f"{where}: gone"
    if kind == "misspelt":
        at = rng.randrange(len(key))
        wrong = key[:at] + rng.choice("abcdefghijklmnopqrstuvwxyz_") + key[at + 1 :]
        section[wrong] = section.pop(key)
        return changed, f"{where}: written {wrong}"
    if kind == "moved":
        other = rng.choice([name for name in changed if isinstance(changed[name], dict)] or ["run"])
        changed.setdefault(other, {})[key] = section.pop(key)
        return changed, f"{where}: moved into {other}"
    values = [value for value in VALUES if not (key in LONG and isinstance(value, float) and value > 1e6)]
    section[key] = rng.choice(values)
    return changed, f"{where}: {section[key]!r}"


def _places(section: dict[str, Any], prefix: str = "") -> Iterator[tuple[dict[str, Any], str, str]]:
    """(section, key, dotted path) of everything in a config."""
    for key, value in section.items():
        yield section, key, f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _places(value, f"{prefix}{key}.")
