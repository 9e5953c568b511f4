"""Who draws the noise of a round, and what keeps a round from being released twice.

A round's noisy sums are a release. Were a round done again after a crash with other noise, or with the same noise over
another sum, two releases together would say more than one: so a mechanism releases each round once, and whoever asks
for it again gets what was released.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from fl_core.privacy.events import PrivacyEvent
from fl_core.rng import NoiseSource
from fl_core.types import Tensors

Make = Callable[[NoiseSource], Tensors]


class Mechanism(Protocol):
    """What a strategy with noise at the server is given before its first round."""

    @property
    def noise_multiplier(self) -> float:
        """Standard deviation of the noise in units of the clip norm."""

    @property
    def shapes(self) -> Mapping[str, Tensors]:
        """Names and shapes of every part of an update: public, and known when no update comes."""

    def release(self, round: int, events: tuple[PrivacyEvent, ...], make: Make) -> Tensors:
        """What was released for ``round``; at the first time ``make(noise)``, paid for with ``events`` before it is
        drawn and kept before it is given.

        Raises:
            BudgetSpentError: the budget does not cover it; nothing was drawn.
        """


@dataclass(frozen=True)
class InMemory:
    """A mechanism without a ledger, for one process that is never resumed: tests, and servers of other people.

    It spends without counting; the caller must know how many rounds the noise multiplier was made for.
    """

    noise_multiplier: float
    shapes: Mapping[str, Tensors]
    noise: Callable[[int], NoiseSource]
    """The source for a round."""

    def release(self, round: int, events: tuple[PrivacyEvent, ...], make: Make) -> Tensors:
        """What ``make`` gives with the noise of ``round``; drawn anew at every call, and ``events`` are not counted."""
        return make(self.noise(round))
