"""How much a history of noisy steps reveals: Renyi differential privacy of the Poisson-sampled Gaussian mechanism.

Every event becomes a vector over the fixed ``ORDERS``; vectors of events that follow one another add up, whatever
their sampling rates and noises, so a ledger stores the sum. The analysis is Opacus' (arXiv 1908.10530); the step
from the vector to (epsilon, delta) is theorem 21 of arXiv 1905.09982. Neighbouring data sets differ in one example
that is added or removed. Epsilon is an upper bound: it may be larger than the truth, never smaller.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt

from fl_core.errors import PrivacyError
from fl_core.privacy.events import PrivacyEvent
from fl_core.privacy.pld import pld_epsilon

RdpVector = npt.NDArray[np.float64]

ORDERS: tuple[float, ...] = (
    *(1.25 + 0.25 * i for i in range(19)),  # 1.25 to 5.75: where epsilon over 2 has its best order
    *(6.0 + 0.5 * i for i in range(12)),  # 6 to 11.5
    *(float(order) for order in range(12, 65)),
    *(float(order) for order in (72, 80, 96, 112, 128, 160, 192, 256, 384, 512)),
)
"""Orders of every stored vector. A ledger written with other orders cannot be continued."""

_SERIES_ERROR = 1e-10
"""Added to every step: the series of a broken order stops up to 4e-11 below its sum (measured by quadrature)."""
_LARGEST_NOISE_MULTIPLIER = 1e4
_SMALLEST_NOISE_MULTIPLIER = 1e-2
_FIRST_STEP_DOWN = {"rdp": 0.5, "pld": 0.8}
_NOISE_STEP = 1e-4
"""Relative distance at which the search for a noise multiplier stops."""


@lru_cache(maxsize=1)
def _opacus_analysis() -> ModuleType:
    """Opacus' analysis file alone: numpy and scipy, 0.3 s, where the whole of opacus brings torch and 3.5 s."""
    package = importlib.util.find_spec("opacus")
    if package is None or not package.submodule_search_locations:
        raise PrivacyError("the rdp accountant needs opacus, which is not installed: pip install opacus")
    path = Path(package.submodule_search_locations[0]) / "accountants" / "analysis" / "rdp.py"
    spec = importlib.util.spec_from_file_location("fl_core.privacy._opacus_rdp", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise PrivacyError(f"the rdp accountant needs opacus' file {path}, which is not there")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@lru_cache(maxsize=4096)
def _rdp_of_one_step(sample_rate: float, noise_multiplier: float) -> RdpVector:
    vector = np.asarray(
        _opacus_analysis().compute_rdp(q=sample_rate, noise_multiplier=noise_multiplier, steps=1, orders=ORDERS),
        dtype=np.float64,
    )
    # An order that cannot be computed says nothing; infinity keeps it out of every minimum.
    vector = np.where(np.isnan(vector), np.inf, np.maximum(vector, 0.0)) + _SERIES_ERROR
    vector.setflags(write=False)
    return vector


def rdp(sample_rate: float, noise_multiplier: float, steps: int) -> RdpVector:
    """Renyi divergence bound of ``steps`` steps at each of ``ORDERS``: float64 [len(ORDERS)], to be added up.

    Raises:
        PrivacyError: an argument is out of range.
    """
    event = PrivacyEvent(sample_rate, noise_multiplier, steps)
    return _rdp_of_one_step(float(event.sample_rate), float(event.noise_multiplier)) * event.steps


def rdp_of(events: Sequence[PrivacyEvent]) -> RdpVector:
    """The vector of several events that follow one another; zeros for none."""
    total = np.zeros(len(ORDERS))
    for event in events:
        total = total + rdp(event.sample_rate, event.noise_multiplier, event.steps)
    return total


def epsilon(rdp_vector: RdpVector, delta: float) -> float:
    """The smallest epsilon that the vector proves at ``delta``; 0 where nothing was spent.

    Raises:
        PrivacyError: ``delta`` is not between 0 and 1, or the vector does not belong to ``ORDERS``.
    """
    if not 0.0 < delta < 1.0:
        raise PrivacyError(f"delta must be between 0 and 1, got {delta}")
    if rdp_vector.shape != (len(ORDERS),) or not bool(np.all(rdp_vector >= 0)):
        raise PrivacyError(f"expected {len(ORDERS)} numbers of at least 0 for the RDP orders, got {rdp_vector!r}")
    if not rdp_vector.any():
        return 0.0
    order = np.asarray(ORDERS)
    bound = rdp_vector - (math.log(delta) + np.log(order)) / (order - 1) + np.log1p(-1 / order)
    return max(0.0, float(bound.min()))


def rdp_epsilon(events: Sequence[PrivacyEvent], delta: float) -> float:
    """Epsilon of a history at ``delta`` by Renyi divergences."""
    return epsilon(rdp_of(events), delta)


ACCOUNTANTS: dict[str, Callable[[Sequence[PrivacyEvent], float], float]] = {"rdp": rdp_epsilon, "pld": pld_epsilon}
"""Epsilon of a history at a delta, by the accountant's name. Both are upper bounds of the same truth."""


def check_accountant(name: str) -> None:
    """Refuse an accountant that does not exist.

    Raises:
        PrivacyError: the message names those that do.
    """
    if name not in ACCOUNTANTS:
        raise PrivacyError(f"privacy.accountant must be one of {', '.join(sorted(ACCOUNTANTS))}, got {name!r}")


@lru_cache(maxsize=256)
def noise_multiplier(
    epsilon_target: float, delta: float, sample_rate: float, steps: int, accountant: str = "rdp"
) -> float:
    """The smallest noise multiplier whose ``steps`` steps stay within ``epsilon_target``, by bisection.

    The answer is at most one part in 10,000 too large and never too small, however the steps are split into rounds.

    Raises:
        PrivacyError: an argument is out of range, or no noise multiplier up to 10,000 is enough.
    """
    if not 0.0 < epsilon_target < math.inf:
        raise PrivacyError(f"epsilon must be positive and finite, got {epsilon_target}")
    check_accountant(accountant)
    # Room for the rounding of a sum over rounds: a ledger adds vectors one by one.
    target = epsilon_target * (1 - 1e-9)

    def fits(noise: float) -> bool:
        return ACCOUNTANTS[accountant]([PrivacyEvent(sample_rate, noise, steps)], delta) <= target

    # Every accountant asks for less noise than this one, which is the fastest: it gives the place to start from.
    enough = 1.0 if accountant == "rdp" else noise_multiplier(epsilon_target, delta, sample_rate, steps)
    while not fits(enough):
        enough *= 2
        if enough > _LARGEST_NOISE_MULTIPLIER:
            raise PrivacyError(
                f"epsilon {epsilon_target} at delta {delta} cannot be reached with {steps} steps at sample_rate "
                f"{sample_rate}: ask for fewer steps or a larger epsilon"
            )
    too_little = enough * _FIRST_STEP_DOWN[accountant]
    while enough > _SMALLEST_NOISE_MULTIPLIER and fits(too_little):
        enough, too_little = too_little, too_little * _FIRST_STEP_DOWN[accountant]
    while enough > too_little * (1 + _NOISE_STEP):
        middle = math.sqrt(too_little * enough)
        if fits(middle):
            enough = middle
        else:
            too_little = middle
    return enough
