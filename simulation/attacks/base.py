"""What an attacker may do: spoil its own examples, or forge its update knowing those of all honest clients.

Forgers work together, know the server's code and state, and try their strength against them before they send: the
strength that moves the model farthest from where the honest clients alone would have moved it. Everything is a function
of the run's seed, so an attacked run repeats and resumes to the bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fl_core.data.federation import Examples
from strategies.robust.rule import Matrix

STRENGTHS = tuple(2.0**power for power in range(-4, 8))
"""The ladder that is tried first; then two steps between the best rung and its neighbours."""

Damage = Callable[[Matrix], float]
"""How far the forged updates [A, D] would move the model astray; minus infinity for what would not be admitted."""


@dataclass(frozen=True)
class AttackerView:
    """What the attackers of a round know before they forge their updates."""

    honest_ND: Matrix
    """The updates of the honest clients, sorted by client_id."""
    own_AD: Matrix
    """What the attackers' own honest training gave, sorted by client_id."""
    damage: Damage
    draw: np.random.Generator


class Attack:
    """A way of lying: an attack spoils its examples or forges its update. Frozen dataclasses, arguments as fields.

    >>> from dataclasses import dataclass
    >>> import numpy as np
    >>> from simulation.attacks.base import Attack, AttackerView
    >>> @dataclass(frozen=True)
    ... class Opposite(Attack):
    ...     times: float = 2.0
    ...
    ...     def forge(self, view):
    ...         return np.tile(-self.times * view.honest_ND.mean(axis=0), (len(view.own_AD), 1))
    >>> honest_ND, own_AD = np.array([[1.0, 2.0], [3.0, 2.0]]), np.ones((1, 2))
    >>> view = AttackerView(honest_ND, own_AD, damage=lambda forged_AD: 0.0, draw=np.random.default_rng(0))
    >>> Opposite().forge(view).tolist()
    [[-4.0, -4.0]]
    """

    def poison(self, examples: Examples, classes: int) -> Examples:
        """The examples that an attacker trains on in place of its own; ``classes`` is how many labels there are."""
        return examples

    def forge(self, view: AttackerView) -> Matrix:
        """The updates [A, D] that the attackers send in place of their own."""
        return view.own_AD


@dataclass(frozen=True)
class TunedAttack(Attack, ABC):
    """An attack with a strength; None tunes it against the defence in every round."""

    strength: float | None = None

    def __post_init__(self) -> None:
        if self.strength is not None and not self.strength > 0:
            raise ValueError(f"simulation.attack.args.strength: expected above 0 or null, got {self.strength}")

    def forge(self, view: AttackerView) -> Matrix:
        """The forgery of the given strength, or of the most harmful one."""
        prepared = self.prepare(view)
        if self.strength is not None:
            return prepared(self.strength)
        return prepared(most_harmful(lambda strength: view.damage(prepared(strength))))

    @abstractmethod
    def prepare(self, view: AttackerView) -> Callable[[float], Matrix]:
        """What would be sent, [A, D], as a function of the strength."""


def most_harmful(harm: Callable[[float], float]) -> float:
    """The strength of the largest harm: the best rung of the ladder, refined twice by halves of its octaves."""
    tried = {strength: harm(strength) for strength in STRENGTHS}
    for step in (2**0.5, 2**0.25):
        best = max(sorted(tried), key=lambda strength: tried[strength])
        tried |= {strength: harm(strength) for strength in (best / step, best * step)}
    return max(sorted(tried), key=lambda strength: tried[strength])
