"""The tighter accountant: privacy loss distributions (arXiv 2207.04380), computed by Google's dp-accounting.

It charges about a tenth less than Renyi divergences for the same noise, and needs the whole history of events, not
a sum. Discretisation and truncation are pessimistic: the answer stays an upper bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from fl_core.errors import PrivacyError
from fl_core.privacy.events import PrivacyEvent

_INTERVAL = 1e-3
"""Width of the grid of privacy losses. 0.1 s for any number of equal steps, and under 0.0001 above 1e-4's epsilon."""


def pld_epsilon(events: Sequence[PrivacyEvent], delta: float) -> float:
    """Epsilon of a history at ``delta``; 0 for an empty one.

    Raises:
        PrivacyError: ``delta`` is not between 0 and 1, or dp-accounting is not installed.
    """
    if not 0.0 < delta < 1.0:
        raise PrivacyError(f"delta must be between 0 and 1, got {delta}")
    steps: dict[tuple[float, float], int] = {}
    for event in events:
        mechanism = (float(event.sample_rate), float(event.noise_multiplier))
        steps[mechanism] = steps.get(mechanism, 0) + event.steps
    # The order of events does not matter: sorted, equal histories share one computation.
    return _epsilon(tuple(sorted((*mechanism, count) for mechanism, count in steps.items())), float(delta))


@lru_cache(maxsize=4096)
def _epsilon(history: tuple[tuple[float, float, int], ...], delta: float) -> float:
    if not history:
        return 0.0
    try:
        import dp_accounting
        from dp_accounting import pld
    except ImportError as missing:
        raise PrivacyError("accountant pld: needs dp-accounting, pip install 'stonecrop[accounting]'") from missing
    accountant = pld.PLDAccountant(value_discretization_interval=_INTERVAL)
    for sample_rate, noise_multiplier, steps in history:
        gaussian = dp_accounting.GaussianDpEvent(noise_multiplier)
        accountant.compose(dp_accounting.PoissonSampledDpEvent(sample_rate, gaussian), steps)
    return float(accountant.get_epsilon(delta))
