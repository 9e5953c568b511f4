"""What spends privacy: a run of noisy steps, the one thing that accountants and ledgers charge for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fl_core.errors import PrivacyError
from fl_core.types import DpTerms


@dataclass(frozen=True)
class PrivacyEvent:
    """``steps`` runs of the Gaussian mechanism, each on a Poisson sample of the examples.

    A release that looks at every example once (a histogram of ranges, say) has ``sample_rate`` 1 and one step.

    Raises:
        PrivacyError: a field is out of range; the message names it.
    """

    sample_rate: float
    noise_multiplier: float
    """Standard deviation of the noise in units of the sensitivity (the clip norm)."""
    steps: int

    def __post_init__(self) -> None:
        if not 0.0 < self.sample_rate <= 1.0:
            raise PrivacyError(f"sample_rate must be over 0 and at most 1, got {self.sample_rate}")
        if not 0.0 < self.noise_multiplier < math.inf:
            raise PrivacyError(f"noise_multiplier must be positive and finite, got {self.noise_multiplier}")
        if type(self.steps) is not int or self.steps < 1:
            raise PrivacyError(f"steps must be a whole number of at least 1, got {self.steps!r}")


def event_of(terms: DpTerms) -> PrivacyEvent:
    """What one round of local training under ``terms`` spends.

    Raises:
        PrivacyError: a field is out of range.
    """
    return PrivacyEvent(terms.sample_rate, terms.noise_multiplier, terms.steps)
