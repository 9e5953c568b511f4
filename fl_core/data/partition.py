"""How a pool of examples is dealt to clients: pure functions of the labels and a generator.

Each gives one sorted array of rows per client; together they hold every row once. ``natural`` is no function here:
a data set whose clients are real people or places comes with them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from fl_core.errors import DataError
from fl_core.types import Array

Kind = Literal["natural", "iid", "dirichlet", "shards"]
PARTITION_KINDS: tuple[Kind, ...] = ("natural", "iid", "dirichlet", "shards")

_MOST_DRAWS = 1000


@dataclass(frozen=True)
class PartitionSpec:
    """How examples are given to clients. ``natural`` keeps the people, devices or sites they came from.

    Raises:
        ValueError: a field is out of range; the message names it.
    """

    kind: Kind = "natural"
    clients: int | None = None
    """How many clients a pool is dealt to. This and the fields below stay as they are when kind is natural."""
    alpha: float = 0.3
    """Concentration of the Dirichlet split (arXiv 1909.06335): smaller is more uneven."""
    shards_per_client: int = 2
    min_examples: int = 32
    """Fewest examples of any client."""
    client_test: float = 0.0
    """Share of each client's examples that is held out on the client."""

    def __post_init__(self) -> None:
        wants = self.kind != "natural"
        if not wants:
            self._refuse_beside_natural()
        _require(self.kind in PARTITION_KINDS, "kind", f"one of {', '.join(PARTITION_KINDS)}", self.kind)
        _require(not wants or (self.clients or 0) >= 1, "clients", "at least 1", self.clients)
        _require(self.alpha > 0, "alpha", "above 0", self.alpha)
        _require(self.shards_per_client >= 1, "shards_per_client", "at least 1", self.shards_per_client)
        _require(self.min_examples >= 1, "min_examples", "at least 1", self.min_examples)
        _require(0 <= self.client_test < 1, "client_test", "0 to below 1", self.client_test)

    def _refuse_beside_natural(self) -> None:
        """Refuse fields that say how a pool is dealt where nothing is dealt.

        Raises:
            ValueError: there is one that is not as by default.
        """
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name != "kind" and value != each.default:
                raise ValueError(
                    f"data.partition.{each.name}: expected a data.partition.kind that deals the data to clients (iid, "
                    f"dirichlet or shards) beside it, or nothing, got {value!r} beside natural, which keeps the "
                    "clients that the data set comes with"
                )


def _require(ok: bool, name: str, expected: str, got: object) -> None:
    if not ok:
        raise ValueError(f"data.partition.{name}: expected {expected}, got {got!r}")


def split(label_N: Array, spec: PartitionSpec, rng: np.random.Generator) -> list[Array]:
    """Rows of each client, as ``spec`` asks.

    Raises:
        DataError: there are too few examples for so many clients, or the labels are no classes.
    """
    clients = spec.clients or 1
    need = clients * spec.min_examples
    if len(label_N) < need:
        raise DataError(f"data.partition: {clients} clients need {need} examples, got {len(label_N)}")
    if spec.kind == "iid":
        return iid(len(label_N), clients, rng)
    if label_N.ndim != 1 or not np.issubdtype(label_N.dtype, np.integer):
        raise DataError(
            f"data.partition.kind {spec.kind}: expected one class number per example, "
            f"got targets of dtype {label_N.dtype} and shape {label_N.shape}"
        )
    if spec.kind == "dirichlet":
        return dirichlet(label_N, clients, spec.alpha, rng, spec.min_examples)
    if spec.kind == "shards":
        return shards(label_N, clients, spec.shards_per_client, rng)
    raise DataError("data.partition.kind natural: expected a data set that comes with its own clients, got a pool")


def iid(count: int, clients: int, rng: np.random.Generator) -> list[Array]:
    """Rows 0 to ``count`` - 1, shuffled and dealt so that sizes differ by at most one."""
    return [np.sort(part) for part in np.array_split(rng.permutation(count), clients)]


def dirichlet(
    label_N: Array, clients: int, alpha: float, rng: np.random.Generator, min_examples: int = 1
) -> list[Array]:
    """Each class is shared out by a draw from Dirichlet(``alpha``), drawn again until nobody has too few.

    arXiv 1909.06335, in the form of arXiv 1905.12022 (shares per class, not per client).

    Raises:
        DataError: no draw of a thousand gave every client ``min_examples``.
    """
    by_class = [rng.permutation(np.flatnonzero(label_N == label)) for label in np.unique(label_N)]
    for _ in range(_MOST_DRAWS):
        parts: list[list[Array]] = [[] for _ in range(clients)]
        for rows in by_class:
            share = rng.dirichlet(np.full(clients, alpha))
            cuts = np.rint(np.cumsum(share)[:-1] * len(rows)).astype(np.int64)
            for part, piece in zip(parts, np.split(rows, cuts), strict=True):
                part.append(piece)
        dealt = [np.sort(np.concatenate(part)) for part in parts]
        if min(len(rows) for rows in dealt) >= min_examples:
            return dealt
    raise DataError(
        f"data.partition: no Dirichlet({alpha}) draw gave each of {clients} clients {min_examples} of "
        f"{len(label_N)} examples; raise alpha, or lower clients or min_examples"
    )


def shards(label_N: Array, clients: int, per_client: int, rng: np.random.Generator) -> list[Array]:
    """The pool sorted by class, cut into equal pieces, ``per_client`` to each client (arXiv 1602.05629).

    Raises:
        DataError: there are fewer examples than pieces.
    """
    pieces = clients * per_client
    if len(label_N) < pieces:
        raise DataError(f"data.partition.shards_per_client: {pieces} shards need as many examples, got {len(label_N)}")
    shuffled = rng.permutation(len(label_N))  # which examples of a class fall into which of its shards
    by_class = shuffled[np.argsort(label_N[shuffled], kind="stable")]
    shard = np.array_split(by_class, pieces)
    order = rng.permutation(pieces).reshape(clients, per_client)
    return [np.sort(np.concatenate([shard[i] for i in row])) for row in order]


def hold_out(row_M: Array, share: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """(rows to train on, rows held out): ``share`` of the rows, drawn evenly, and never all of them."""
    held = min(round(share * len(row_M)), len(row_M) - 1)
    shuffled = rng.permutation(row_M)
    return np.sort(shuffled[held:]), np.sort(shuffled[:held])
