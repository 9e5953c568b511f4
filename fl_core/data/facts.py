"""What a federation says of its data beside the examples: labels, unit, range and groups, each in its plain form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from fl_core.client_id import plain_text
from fl_core.types import Array

_REAL = (int, float, np.integer, np.floating)
_LARGEST = float(np.finfo(np.float32).max)
_GRID_STEPS = 255
_LEAST_STEPS = 2
"""A range that lies so far from zero that its grid, which holds zero, has fewer steps in it tells no inputs apart."""


def checked_text(value: object, may_be_empty: bool = False) -> str:
    """Words for people.

    Raises:
        ValueError: it is no text, or empty where it may not be.
    """
    if not isinstance(value, str) or not (value.strip() or may_be_empty):
        raise ValueError(f"expected text, got {value!r}")
    return plain_text(value)


def checked_labels(labels: object) -> tuple[str, ...]:
    """The names of the classes, in their order; numbers as text.

    Raises:
        ValueError: they are no sequence of names, or two classes have one name.
    """
    given = labels.tolist() if isinstance(labels, np.ndarray) else labels
    if not isinstance(given, Sequence) or isinstance(given, (str, bytes)):
        raise ValueError(f"expected a tuple of class names, got {type(labels).__name__} {labels!r}")
    wrong = [name for name in given if isinstance(name, bool) or not isinstance(name, (str, int, np.integer))]
    if wrong:
        raise ValueError(f"expected names of classes as text, got {type(wrong[0]).__name__} {wrong[0]!r}")
    names = tuple(plain_text(name) if isinstance(name, str) else str(name) for name in given)
    twice = [name for name, count in Counter(names).items() if count > 1 or not name.strip()]
    if twice:
        raise ValueError(f"expected a name of its own for each class, got {twice[0]!r} for {names.count(twice[0])}")
    return names


def checked_range(bounds: object) -> tuple[float, float]:
    """The lowest and the highest input, as numbers.

    Raises:
        ValueError: they are no two finite numbers in their order, or so far from zero that all inputs are one step.
    """
    given = bounds.tolist() if isinstance(bounds, np.ndarray) else bounds
    pair = tuple(given) if isinstance(given, (tuple, list)) else ()
    numbers = [float(each) for each in pair if isinstance(each, _REAL) and not isinstance(each, bool)]
    if len(pair) != 2 or len(numbers) != 2 or not all(abs(each) <= _LARGEST for each in numbers):
        raise ValueError(f"expected two finite numbers (low, high), got {bounds!r}")
    low, high = numbers
    if low >= high:
        raise ValueError(f"expected low below high, got ({low:g}, {high:g})")
    steps = _GRID_STEPS * (high - low) / (max(high, 0.0) - min(low, 0.0))
    if steps < _LEAST_STEPS:
        raise ValueError(
            f"expected a range that holds zero, as the integer grid does, or is wide beside its distance from it, got "
            f"({low:g}, {high:g}), which is {steps:.2g} steps of the grid; subtract a public constant from all inputs"
        )
    return low, high


def checked_groups(groups: object, examples: int | None) -> dict[str, Array]:
    """For each group its rows of a server test set of so many examples, int64; a mask becomes the rows that it marks.

    Raises:
        ValueError: there is no test set, or a group is no set of its rows.
    """
    if not isinstance(groups, Mapping):
        raise ValueError(f"expected a mapping from names to rows of the server test set, got {type(groups).__name__}")
    if groups and examples is None:
        raise ValueError(f"expected a server test set that {_names(groups)} are rows of, got none")
    return {_group_name(name): _rows(name, rows, examples or 0) for name, rows in groups.items()}


def _rows(name: str, given: object, examples: int) -> Array:
    rows = np.asarray(given)
    if rows.ndim == 1 and rows.dtype == bool and len(rows) == examples:
        rows = np.flatnonzero(rows)
    if rows.ndim == 1 and not rows.size:
        raise ValueError(f"group {name}: expected at least one row, got none; leave the group out")
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise ValueError(
            f"group {name}: expected whole numbers [rows] or a mask [{examples}], got {rows.dtype} {rows.shape}"
        )
    low, high = int(rows.min()), int(rows.max())
    if low < 0 or high >= examples:
        raise ValueError(f"group {name}: expected rows 0 to {examples - 1} of the server test set, got {low} to {high}")
    if len(np.unique(rows)) < len(rows):
        raise ValueError(f"group {name}: expected each row once, got {len(rows) - len(np.unique(rows))} twice")
    return rows.astype(np.int64)


def _group_name(name: object) -> str:
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"expected names of groups as text, got {type(name).__name__} {name!r}")
    return plain_text(name)


def _names(groups: Mapping[object, object]) -> str:
    return ", ".join(map(str, list(groups)[:3]))
