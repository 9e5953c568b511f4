"""What a rule of selection is, and what the server remembers of each client for it.

A rule is a pure function of who is there, what was seen of them and a generator that belongs to this round alone, so
the same run chooses the same clients whoever computes it and after any crash. The memory is in the checkpoint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np

from fl_core.parts import RMS_LOSS_PART
from fl_core.types import ClientInfo


@dataclass(frozen=True)
class ClientHistory:
    """What a server has seen of one client."""

    asked: int = 0
    answered: int = 0
    """How many of its updates were fit to be summed."""
    last_round: int = 0
    """The round of the last of them; 0 before the first."""
    seconds: float | None = None
    """From asked to answered: each answer counts as much as all before it together. None before the first."""
    loss: float | None = None
    """Root mean square loss of its examples, as its last update says; only where the rule asks for it."""

    def was_asked(self) -> ClientHistory:
        """One more task was sent."""
        return replace(self, asked=self.asked + 1)

    def was_summed(self, round: int, seconds: float, loss: float | None) -> ClientHistory:
        """One more update was fit to be summed."""
        smooth = seconds if self.seconds is None else (self.seconds + seconds) / 2
        return replace(self, answered=self.answered + 1, last_round=round, seconds=smooth, loss=loss)

    def was_late(self, seconds: float) -> ClientHistory:
        """It was not done after ``seconds``, so it takes at least that long."""
        return replace(self, seconds=max(self.seconds or 0.0, seconds))


HistoryByClient = Mapping[str, ClientHistory]


def histories_to_plain(seen: HistoryByClient) -> dict[str, dict[str, Any]]:
    """As a checkpoint keeps it."""
    return {client: asdict(each) for client, each in sorted(seen.items())}


def histories_from_plain(plain: Mapping[str, Mapping[str, Any]]) -> dict[str, ClientHistory]:
    """What ``histories_to_plain`` gave."""
    return {client: ClientHistory(**fields) for client, fields in plain.items()}


@dataclass(frozen=True)
class Candidate:
    """A client that could be asked now."""

    info: ClientInfo
    seen: ClientHistory = ClientHistory()

    @property
    def client_id(self) -> str:
        """Who it is."""
        return self.info.client_id


class Selection(ABC):
    """A rule by which a round's clients are chosen. Frozen dataclasses with their parameters as fields, each checked.

    >>> import numpy as np
    >>> from fl_core.types import ClientInfo
    >>> from fl_server.selection.base import Candidate, Selection
    >>> class Largest(Selection):
    ...     def choose(self, candidates, wanted, round, draw):
    ...         return sorted(candidates, key=lambda each: (-each.info.size_class, each.client_id))[:wanted]
    >>> known = (("ada", 64), ("ben", 512), ("cyd", 128))
    >>> candidates = [Candidate(ClientInfo(name, size, "1.0", simulated=True)) for name, size in known]
    >>> chosen = Largest().choose(candidates, wanted=2, round=1, draw=np.random.default_rng(0))
    >>> [each.client_id for each in chosen]
    ['ben', 'cyd']
    """

    uses_losses: ClassVar[bool] = False
    """True where clients must send their losses, which is refused under DP."""
    uses_device: ClassVar[bool] = False
    """True where clients are asked anew before each round how warm they are and what their battery holds."""

    @property
    def asks(self) -> tuple[str, ...]:
        """Parts of ``fl_core.parts`` that every update must bring for this rule; the server sums none of them."""
        return (RMS_LOSS_PART,) if self.uses_losses else ()

    @abstractmethod
    def choose(
        self, candidates: Sequence[Candidate], wanted: int, round: int, draw: np.random.Generator
    ) -> list[Candidate]:
        """At most ``wanted`` of the candidates, who come in the order of their client_ids."""


def draw_weighted(
    candidates: Sequence[Candidate], weights: Sequence[float], wanted: int, draw: np.random.Generator
) -> list[Candidate]:
    """``wanted`` candidates without repetition, by weights above 0; all of them where there are not more.

    Each gets the key log(u) / weight and the largest keys win (Efraimidis and Spirakis 2006, weighted reservoirs).
    """
    keys = np.log(draw.random(len(candidates))) / np.asarray(weights, np.float64)
    return [candidates[row] for row in sorted(np.argsort(-keys, kind="stable")[:wanted].tolist())]
