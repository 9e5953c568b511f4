"""The contract of a data factory: named clients with their examples, and optionally a test set and public examples.

A factory is any callable that makes a ``Federation``; ``check`` says everything that is wrong with one at once, and
gives it with plain arrays, which torch takes as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from fl_core.client_id import client_id_problem, plain_text
from fl_core.data.arrays import finite_problem, input_problem, plain, target_problem
from fl_core.data.facts import checked_groups, checked_labels, checked_range, checked_text
from fl_core.errors import DataError
from fl_core.types import Array

SERVER_TEST, PUBLIC = "server test set", "public examples"
_NAMED = 3


@dataclass(frozen=True)
class Examples:
    """Inputs float32 [N, ...], already preprocessed, and one target each.

    >>> import numpy as np
    >>> from fl_core.data.federation import Examples
    >>> examples = Examples(x=np.zeros((4, 3), np.float32), y=np.array([0, 1, 0, 2]))
    >>> len(examples), examples.take(np.array([1, 3])).y.tolist()
    (4, [1, 2])
    """

    x: Array
    y: Array

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: Array) -> Examples:
        """The given rows, in the given order."""
        return Examples(self.x[rows], self.y[rows])


@dataclass(frozen=True)
class ClientData:
    """One client's own examples; ``test`` is its held-out part, which never trains anything."""

    train: Examples
    test: Examples | None = None


@dataclass(frozen=True)
class Federation:
    """Who holds what. ``unit`` says in plain words what one example is: it is what per-example DP protects.

    A data factory of one's own, which a config names as ``data: {factory: "my_package.rooms:rooms"}``:

    >>> import numpy as np
    >>> from fl_core.data.federation import ClientData, Examples, Federation
    >>> def rooms(seed):
    ...     draw = np.random.default_rng(seed)
    ...     def examples(count):
    ...         return Examples(draw.random((count, 3), np.float32), draw.integers(0, 2, count))
    ...     return Federation(
    ...         clients={"kitchen": ClientData(examples(40)), "hall": ClientData(examples(30))},
    ...         test=examples(10),
    ...         unit="one minute of one room",
    ...         labels=("empty", "taken"),
    ...         input_range=(0.0, 1.0),
    ...     )
    >>> federation = rooms(seed=1).check()
    >>> federation.input_shape, {name: len(client.train) for name, client in federation.clients.items()}
    ((3,), {'kitchen': 40, 'hall': 30})
    """

    clients: Mapping[str, ClientData]
    """By client_id: 1 to 63 letters, digits, dots, dashes or underscores, the first a letter or a digit."""
    test: Examples | None = None
    """The server's own test set: examples of nobody who trains."""
    public: Examples | None = None
    """Public examples, for calibrating ranges."""
    unit: str = "example"
    """What one example is, e.g. "a window of 2 s of wrist movement"."""
    not_hidden: str = ""
    """What per-example privacy does not hide here, e.g. "that a person took part, or a whole recording"."""
    labels: tuple[str, ...] = ()
    """Names of the classes, where there are any; numbers become text."""
    input_range: tuple[float, float] = (-1.0, 1.0)
    """Public bounds of the inputs, low below high; values outside saturate in the integer model."""
    groups: Mapping[str, Array] = field(default_factory=dict)
    """For each named group of the server's test set (a person held out, say) its rows, or a mask of them."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        first = next(part for _, part in self.parts())
        return tuple(first.x.shape[1:])

    def parts(self) -> Iterator[tuple[str, Examples]]:
        """Whose examples there are, in words for messages, and the examples."""
        for name, client in self.clients.items():
            yield f"client {name}, train", client.train
        for name, client in self.clients.items():
            if client.test is not None:
                yield f"client {name}, test", client.test
        if self.test is not None:
            yield SERVER_TEST, self.test
        if self.public is not None:
            yield PUBLIC, self.public

    def check(self) -> Federation:
        """The federation with its arrays and facts in their plain forms, once everything in it has been looked at.

        What is in its plain form already is not copied. A server holds nobody's examples: there, a test set or public
        examples are enough.

        Raises:
            DataError: with every problem found, each with its part, what was expected and what came.
        """
        problems = list(_form_problems(self))
        if problems:
            raise DataError(problems)
        facts: dict[str, Any] = {}
        problems = by_problem(_part_problems(self.parts()))
        readers = _readers_of(self)
        if not problems:  # groups are rows of the test set
            readers["groups"] = partial(checked_groups, self.groups, None if self.test is None else len(self.test))
        for name, read in readers.items():
            try:
                facts[name] = read()
            except ValueError as error:
                problems.append(f"data: {name}: {error}")
        if problems:
            raise DataError(problems)
        arrays = _PlainArrays()
        clients = {
            plain_text(name): ClientData(arrays.examples(client.train), arrays.maybe(client.test))
            for name, client in self.clients.items()
        }
        test, public = arrays.maybe(self.test), arrays.maybe(self.public)
        return replace(self, clients=clients, test=test, public=public, **facts)


class _PlainArrays:
    """Examples in plain arrays; two parts that share an array go on sharing it."""

    def __init__(self) -> None:
        self._known: dict[int, Array] = {}

    def examples(self, part: Examples) -> Examples:
        """These examples; themselves, where nothing had to be converted."""
        x, y = self._array(part.x), self._array(part.y)
        return part if x is part.x and y is part.y else Examples(x, y)

    def maybe(self, part: Examples | None) -> Examples | None:
        """These examples, where there are any."""
        return None if part is None else self.examples(part)

    def _array(self, array: Array) -> Array:
        if id(array) not in self._known:
            self._known[id(array)] = plain(array)
        return self._known[id(array)]


def _readers_of(federation: Federation) -> dict[str, Callable[[], Any]]:
    return {
        "unit": partial(checked_text, federation.unit),
        "not_hidden": partial(checked_text, federation.not_hidden, may_be_empty=True),
        "labels": partial(checked_labels, federation.labels),
        "input_range": partial(checked_range, federation.input_range),
    }


def _form_problems(federation: Federation) -> Iterator[str]:
    """What is no federation at all: parts of another type, and names that no client may have."""
    clients = federation.clients
    if not isinstance(clients, Mapping):
        yield f"data: clients: expected a mapping from client_id to ClientData, got {type(clients).__name__}"
        return
    if problem := client_id_problem(*clients):
        yield f"data: client_id: {problem}"
    names = sorted(name for name in clients if isinstance(name, str))
    alike = Counter(name.casefold() for name in names)
    twice = [name for name in names if alike[name.casefold()] > 1]
    if twice:
        yield f"data: client_id: expected names that differ in more than case, got {', '.join(twice[:2])}"
    yield from by_problem(_type_problems(federation))
    if not (clients or federation.test is not None or federation.public is not None):
        yield "data: expected clients, a test set or public examples, got none of them"


def _type_problems(federation: Federation) -> Iterator[tuple[str, str]]:
    """Owner and problem of every part of another type than it must have."""
    parts: dict[str, object] = {SERVER_TEST: federation.test, PUBLIC: federation.public}
    for name, client in federation.clients.items():
        if isinstance(client, ClientData):
            parts |= {f"client {name}, train": client.train, f"client {name}, test": client.test}
        else:
            yield f"client {name}", f"expected ClientData(train, test), got {type(client).__name__}"
    for owner, part in parts.items():
        if not isinstance(part, Examples) and (part is not None or owner.endswith(", train")):
            yield owner, f"expected Examples(x, y), got {type(part).__name__}"


def _part_problems(parts: Iterable[tuple[str, Examples]]) -> Iterator[tuple[str, str]]:
    """Owner and problem of every part whose arrays cannot be used, or are of another shape than the first ones."""
    input_shape: tuple[int, ...] | None = None
    target_shape: tuple[int, ...] | None = None
    for owner, part in parts:
        problem = input_problem(part.x) or target_problem(part.y)
        if not problem:
            input_shape = input_shape or part.x.shape[1:]
            target_shape = part.y.shape[1:] if target_shape is None else target_shape
            problem = _examples_problem(part, input_shape, part.y.shape[1:] if owner == PUBLIC else target_shape)
        if problem:
            yield owner, problem


def _examples_problem(part: Examples, input_shape: tuple[int, ...], target_shape: tuple[int, ...]) -> str:
    if len(part.x) != len(part.y):
        return f"expected as many targets as inputs, got {len(part.y)} for {len(part.x)}"
    if len(part.x) == 0:
        return "expected at least one example, got none; a part that there is not is None"
    if part.x.shape[1:] != input_shape:
        return f"expected inputs of shape {_of(input_shape)}, as others have, got {_of(part.x.shape[1:])}"
    if part.y.shape[1:] != target_shape:
        return f"expected targets of shape {_of(target_shape)}, as others have, got {_of(part.y.shape[1:])}"
    return finite_problem(part.x)


def _of(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(['N', *map(str, shape)])}]"


def by_problem(found: Iterable[tuple[str, str]]) -> list[str]:
    """One line a problem, with those who have it: three of them by name."""
    owners: dict[str, list[str]] = {}
    for owner, problem in found:
        owners.setdefault(problem, []).append(owner)
    return [
        f"{'; '.join(who[:_NAMED])}{f' and {len(who) - _NAMED} more' if len(who) > _NAMED else ''}: {problem}"
        for problem, who in owners.items()
    ]
