"""What all robust rules share: updates as rows of a matrix in, one vector or no step out, and the inner step.

    every part of the updates -> [N clients, D values] in float64 -> the rule -> one vector a part -> inner.server_step

Each part (the change of the model, a control variate) is a matrix of its own. Rows are sorted by client_id, so the
order of replies changes no bit. All clients weigh the same: an example count is a client's own claim, and whoever may
claim a weight may buy the majority. A round with fewer updates than a rule needs moves nothing; its attackers could
be the majority.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from fl_core.types import ClientUpdate, FloatArray, Tensors
from strategies.base import Strategy, StrategyState, Trait
from strategies.wrapper import Wrapper

Matrix = npt.NDArray[np.float64]
"""[N, D] or [D]: N clients, D values of a part."""


@dataclass(frozen=True)
class RoundFacts:
    """What a rule may know in addition to the values."""

    part: str
    names: tuple[str, ...]
    """Names of the tensors that make up a row, in their order."""
    client_ids: tuple[str, ...]
    """Who sent each row, in their order."""
    state: StrategyState


@dataclass(frozen=True, kw_only=True)
class RobustRule(Wrapper):
    """A rule in place of the mean; ``inner`` is who trains and who steps: FedAvg, FedAvgM, FedAdam, FedProx ….

    Raises:
        ValueError: ``inner`` combines updates in a way of its own, or does not wait for its cohort.
    """

    needs_all: ClassVar[bool] = True
    traits: ClassVar[frozenset[Trait]] = frozenset({"robust"})

    def __post_init__(self) -> None:
        inner = type(self.inner).__name__
        if self.inner.needs_all:
            raise ValueError(f"strategy.args.inner: expected a strategy that takes a plain mean, got {inner}")
        refuse_asynchronous(self.inner)
        super().__post_init__()

    @abstractmethod
    def aggregate(self, rows_ND: Matrix, facts: RoundFacts) -> Matrix | None:
        """One vector [D] from the finite rows of at least ``least_updates`` clients; None for no step."""

    def combine(self, state: StrategyState, updates: Sequence[ClientUpdate]) -> Mapping[str, Tensors]:
        """The rule applied to each part on its own; nothing when it has too few updates or gives none."""
        if len(updates) < self.least_updates:
            return {}
        found: dict[str, Tensors] = {}
        for part in sorted(updates[0].parts):
            like = updates[0].parts[part].tensors
            facts = RoundFacts(part, tuple(sorted(like)), tuple(update.client_id for update in updates), state)
            vector_D = self.aggregate(rows_of(updates, part), facts)
            if vector_D is None:
                return {}
            found[part] = tensors_of(vector_D, like)
        return found


@dataclass(frozen=True, kw_only=True)
class CountedRule(RobustRule):
    """A rule that is told how many of a round's clients may lie.

    ``byzantine`` None takes as many as the rule withstands among the updates at hand, which is the safest choice and
    the one that throws most away.
    """

    byzantine: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_byzantine(self.byzantine)

    @classmethod
    @abstractmethod
    def withstands(cls, updates: int) -> int:
        """The most liars among so many updates that the paper's guarantee covers."""

    @property
    def least_updates(self) -> int:
        """The fewest updates among which ``byzantine`` liars are covered."""
        return next(n for n in count(1) if self.withstands(n) >= (self.byzantine or 0))

    def aggregate(self, rows_ND: Matrix, facts: RoundFacts) -> Matrix | None:
        """One vector [D], by the rule for the number of liars that this round is to withstand."""
        byzantine = self.withstands(len(rows_ND)) if self.byzantine is None else self.byzantine
        return self.withstand(rows_ND, byzantine, facts)

    @abstractmethod
    def withstand(self, rows_ND: Matrix, byzantine: int, facts: RoundFacts) -> Matrix | None:
        """One vector [D] from the rows, of which ``byzantine`` may be anything; None for no step."""


def rows_of(updates: Sequence[ClientUpdate], part: str) -> Matrix:
    """[N, D] in float64: one row an update, its tensors in the order of their names."""
    return np.stack([row_of(update.parts[part].tensors) for update in updates])


def row_of(tensors: Tensors) -> Matrix:
    """[D] in float64: the tensors in the order of their names."""
    return np.concatenate([tensors[name].ravel().astype(np.float64) for name in sorted(tensors)])


def tensors_of(vector_D: Matrix, like: Tensors) -> dict[str, FloatArray]:
    """Tensors with the shapes of ``like``, float32, from a vector [D]: undoes ``row_of``."""
    tensors, at = {}, 0
    for name in sorted(like):
        size = like[name].size
        tensors[name] = vector_D[at : at + size].reshape(like[name].shape).astype(np.float32)
        at += size
    return tensors


def squared_distances(rows_ND: Matrix) -> Matrix:
    """[N, N]: squared Euclidean distances, from differences and not from products, which would cancel."""
    from scipy.spatial.distance import pdist, squareform

    distances_NN: Matrix = squareform(pdist(rows_ND, "sqeuclidean"))
    return distances_NN


def check_byzantine(byzantine: int | None) -> None:
    """Raise ValueError unless it is a number of liars."""
    if byzantine is not None and not (type(byzantine) is int and byzantine >= 0):
        raise ValueError(f"strategy.args.byzantine: expected a whole number, at least 0, or null, got {byzantine!r}")


def refuse_asynchronous(inner: Strategy) -> None:
    """Raise ValueError for an inner strategy whose round ends with a buffer: the rule would see too few at once."""
    if "asynchronous" in inner.traits:
        raise ValueError(
            f"strategy.args.inner: expected a strategy that waits for its cohort, got {type(inner).__name__}"
        )
