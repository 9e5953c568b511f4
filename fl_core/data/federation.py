"""The contract of a data factory: named clients with their examples, and optionally a test set and public examples.

A factory is any callable that makes a ``Federation``; ``check`` says everything that is wrong with one at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fl_core.errors import DataError
from fl_core.types import Array


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
    test: Examples | None = None
    """The server's own test set: examples of nobody who trains."""
    public: Examples | None = None
    """Public examples, for calibrating ranges."""
    unit: str = "example"
    """What one example is, e.g. "a window of 2 s of wrist movement"."""
    not_hidden: str = ""
    """What per-example privacy does not hide here, e.g. "that a person took part, or a whole recording"."""
    labels: tuple[str, ...] = ()
    """Names of the classes, where there are any."""
    input_range: tuple[float, float] = (-1.0, 1.0)
    """Public bounds of the inputs; values outside saturate in the integer model."""
    groups: Mapping[str, Array] = field(default_factory=dict)
    """For each named group of the server's test set (a person held out, say) its rows."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        held = [client.train for client in self.clients.values()] + [part for part in (self.test, self.public) if part]
        return tuple(held[0].x.shape[1:])

    def check(self) -> Federation:
        """Return self, or raise DataError with every problem found.

        A server holds nobody's examples: there, a test set or public examples are enough.
        """
        if not (self.clients or self.test or self.public):
            raise DataError("data: expected clients, a test set or public examples, got none of them")
        problems = []
        parts = {f"client {name}, train": client.train for name, client in self.clients.items()}
        parts |= {f"client {name}, test": client.test for name, client in self.clients.items() if client.test}
        parts |= {name: part for name, part in (("server test set", self.test), ("public", self.public)) if part}
        for owner, part in parts.items():
            if not isinstance(part.x, np.ndarray) or not isinstance(part.y, np.ndarray):
                problems.append(f"{owner}: expected numpy arrays, got {type(part.x).__name__}, {type(part.y).__name__}")
            elif part.x.dtype != np.float32:
                problems.append(f"{owner}: expected inputs of dtype float32, got {part.x.dtype}")
            elif len(part.x) != len(part.y):
                problems.append(f"{owner}: expected as many targets as inputs, got {len(part.y)} for {len(part.x)}")
            elif len(part.x) == 0:
                problems.append(f"{owner}: expected at least one example, got none")
            elif part.x.shape[1:] != self.input_shape:
                problems.append(f"{owner}: expected inputs of shape {self.input_shape}, got {part.x.shape[1:]}")
            elif not np.isfinite(part.x).all():
                problems.append(f"{owner}: expected finite inputs, got NaN or Inf")
        if problems:
            raise DataError(problems)
        return self
