"""One seeded change of a Federation as a user's factory gives it: other arrays, other parts, other names.

``mutated`` is called by the factory of a mutated setup, in the process of the run.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fl_core.data.federation import ClientData, Examples, Federation
from fl_core.types import Array

ARRAYS: Mapping[str, Callable[[Array], Any]] = {
    "float64": lambda a: a.astype(np.float64),
    "float16": lambda a: a.astype(np.float16),
    "int8": lambda a: a.astype(np.int8),
    "uint8": lambda a: (a * 100).astype(np.uint8),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "object": lambda a: a.astype(object),
    "bool": lambda a: a > 0,
    "text": lambda a: a.astype(str),
    "reversed view": lambda a: a[::-1],
    "flipped last axis": lambda a: a[..., ::-1],
    "every second": lambda a: np.repeat(a, 2, axis=0)[::2],
    "Fortran order": np.asfortranarray,
    "read-only": lambda a: _locked(a.copy()),
    "masked": lambda a: np.ma.masked_greater(a, np.median(a)),
    "masked, nothing hidden": lambda a: np.ma.array(a),
    "a list": lambda a: a.tolist(),
    "None": lambda a: None,
    "one number": lambda a: a.reshape(-1)[0],
    "no examples": lambda a: a[:0],
    "one example": lambda a: a[:1],
    "one example short": lambda a: a[:-1],
    "an axis more": lambda a: a[:, None],
    "a trailing axis": lambda a: a[..., None],
    "flat": lambda a: a.reshape(-1),
    "NaN": lambda a: _with(a, np.nan),
    "Inf": lambda a: _with(a, np.inf),
    "times 1000": lambda a: a * 1000,
    "times 1e38": lambda a: (a.astype(np.float64) * 1e38).astype(a.dtype),
    "times 1e-6": lambda a: (a * 1e-6).astype(a.dtype),
    "plus 300": lambda a: a + a.dtype.type(300),
    "minus 1": lambda a: a - a.dtype.type(1),
    "constant": lambda a: np.zeros_like(a),
    "one-hot": lambda a: np.eye(3, dtype=np.int64)[np.abs(a.reshape(-1)).astype(int) % 3],
    "0-dim": lambda a: np.array(1, a.dtype),
    "shuffled": lambda a: np.random.default_rng(0).permutation(a),
}
"""What happens to one array."""

WHOLE: Mapping[str, Callable[[Federation], Any]] = {
    "no clients": lambda f: dataclasses.replace(f, clients={}),
    "one client": lambda f: dataclasses.replace(f, clients=dict([next(iter(f.clients.items()))])),
    "clients as a list": lambda f: dataclasses.replace(f, clients=list(f.clients.values())),
    "clients as pairs": lambda f: dataclasses.replace(
        f, clients={n: (c.train.x, c.train.y) for n, c in f.clients.items()}
    ),
    "clients as Examples": lambda f: dataclasses.replace(f, clients={n: c.train for n, c in f.clients.items()}),
    "numbered clients": lambda f: dataclasses.replace(f, clients=dict(enumerate(f.clients.values()))),
    "a client called ''": lambda f: _renamed(f, ""),
    "a client called ../../outside": lambda f: _renamed(f, "../../outside"),
    "a client called Zürich <b>": lambda f: _renamed(f, "Zürich <b>"),
    "a client called with a line break": lambda f: _renamed(f, "a\nb"),
    "a client called None": lambda f: _renamed(f, None),
    "a client called with 300 letters": lambda f: _renamed(f, "x" * 300),
    "labels as numbers": lambda f: dataclasses.replace(f, labels=(0, 1, 2)),
    "labels as an array": lambda f: dataclasses.replace(f, labels=np.array(["a", "b", "c"])),
    "a label too few": lambda f: dataclasses.replace(f, labels=f.labels[:-1]),
    "a label too many": lambda f: dataclasses.replace(f, labels=(*f.labels, "more")),
    "no labels": lambda f: dataclasses.replace(f, labels=()),
    "unit None": lambda f: dataclasses.replace(f, unit=None),
    "input_range reversed": lambda f: dataclasses.replace(f, input_range=(1.0, -1.0)),
    "input_range of one number": lambda f: dataclasses.replace(f, input_range=1.0),
    "input_range 5 to 10": lambda f: dataclasses.replace(f, input_range=(5.0, 10.0)),
    "input_range infinite": lambda f: dataclasses.replace(f, input_range=(-np.inf, np.inf)),
    "groups out of range": lambda f: dataclasses.replace(f, groups={"g": np.array([0, 9999])}),
    "groups as a mask": lambda f: dataclasses.replace(f, groups={"g": np.arange(len(f.test or ())) < 5}),
    "an empty group": lambda f: dataclasses.replace(f, groups={"g": np.array([], int)}),
    "groups as a list": lambda f: dataclasses.replace(f, groups=[0, 1]),
    "test as a pair": lambda f: dataclasses.replace(f, test=(1, 2)),
    "nothing": lambda f: None,
    "a plain dict": lambda f: dict(f.clients),
    "only the test set": lambda f: dataclasses.replace(f, clients={}, public=None),
    "no test set": lambda f: dataclasses.replace(f, test=None),
    "no public examples": lambda f: dataclasses.replace(f, public=None),
}
"""What happens to a whole federation."""


def describe(seed: int) -> str:
    """The change of ``seed`` in words."""
    whole, array, axis, part = _choice(seed)
    return f"Federation: {whole}" if whole else f"Federation: {part} {axis}: {array}"


def mutated(federation: Federation, seed: int) -> Any:
    """A changed federation, or what a user's factory gives in its place."""
    whole, array, axis, part = _choice(seed)
    if whole:
        return WHOLE[whole](federation)
    change = ARRAYS[array]
    first = next(iter(federation.clients))
    client = federation.clients[first]
    if part == "first client's train":
        return _with_client(federation, first, ClientData(_changed(client.train, axis, change), client.test))
    if part == "every client's train":
        every = {n: ClientData(_changed(c.train, axis, change), c.test) for n, c in federation.clients.items()}
        return dataclasses.replace(federation, clients=every)
    if part == "first client's test":
        held_out = _changed(client.test or client.train, axis, change)
        return _with_client(federation, first, ClientData(client.train, held_out))
    held = federation.test or federation.public or client.train
    return dataclasses.replace(federation, **{part: _changed(held, axis, change)})


def _choice(seed: int) -> tuple[str, str, str, str]:
    rng = random.Random(seed)
    whole = rng.choice(list(WHOLE)) if rng.random() < 0.4 else ""
    parts = (
        "every client's train",
        "every client's train",
        "first client's train",
        "first client's test",
        "test",
        "public",
    )
    return whole, rng.choice(list(ARRAYS)), rng.choice(("x", "x", "y")), rng.choice(parts)


def _changed(examples: Examples, axis: str, change: Callable[[Array], Any]) -> Examples:
    return dataclasses.replace(examples, **{axis: change(getattr(examples, axis))})


def _with_client(federation: Federation, name: str, client: ClientData) -> Federation:
    return dataclasses.replace(federation, clients={**federation.clients, name: client})


def _renamed(federation: Federation, name: Any) -> Federation:
    first, *others = federation.clients.items()
    return dataclasses.replace(federation, clients={name: first[1], **dict(others)})


def _with(array: Array, value: float) -> Array:
    changed = array.copy() if array.dtype.kind == "f" else array.astype(np.float32)
    changed.reshape(-1)[0] = value
    return changed


def _locked(array: Array) -> Array:
    array.setflags(write=False)
    return array
