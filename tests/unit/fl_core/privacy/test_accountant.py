"""Epsilon agrees with dp-accounting's Renyi analysis and is never below its privacy loss distributions."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from fl_core.errors import PrivacyError
from fl_core.privacy.accountant import ACCOUNTANTS, ORDERS, check_accountant, epsilon, noise_multiplier, rdp, rdp_of
from fl_core.privacy.events import PrivacyEvent

DELTA = 1e-5


def oracle_rdp(events: Sequence[PrivacyEvent]) -> float:
    import dp_accounting
    from dp_accounting import rdp as oracle

    logging.getLogger("absl").setLevel(logging.ERROR)  # it reports every order that it cannot compute
    accountant = oracle.RdpAccountant(list(ORDERS))
    for event in events:
        gaussian = dp_accounting.GaussianDpEvent(event.noise_multiplier)
        accountant.compose(dp_accounting.PoissonSampledDpEvent(event.sample_rate, gaussian), event.steps)
    return float(accountant.get_epsilon(DELTA))


def oracle_pld(events: Sequence[PrivacyEvent]) -> float:
    import dp_accounting
    from dp_accounting import pld as oracle

    accountant = oracle.PLDAccountant(value_discretization_interval=5e-4)
    for event in events:
        gaussian = dp_accounting.GaussianDpEvent(event.noise_multiplier)
        accountant.compose(dp_accounting.PoissonSampledDpEvent(event.sample_rate, gaussian), event.steps)
    return float(accountant.get_epsilon(DELTA))


GRID = [
    PrivacyEvent(q, sigma, steps)
    for q, sigma, steps in [
        (0.01, 0.8, 1000),
        (0.05, 1.0, 400),
        (0.1, 1.0, 1),
        (0.1, 1.5, 400),
        (0.25, 2.9, 300),
        (0.5, 4.0, 40),
        (1.0, 1.0, 1),
        (1.0, 4.0, 40),
        (0.25, 17.6, 300),
        (0.002, 0.6, 5000),
    ]
]


@pytest.mark.parametrize("event", GRID, ids=str)
def test_epsilon_agrees_with_the_same_analysis_elsewhere_and_bounds_the_tighter_one(event: PrivacyEvent) -> None:
    ours = epsilon(rdp(event.sample_rate, event.noise_multiplier, event.steps), DELTA)
    assert ours == pytest.approx(oracle_rdp([event]), rel=0.01)
    assert ours >= oracle_pld([event])


histories = st.lists(
    st.builds(
        PrivacyEvent,
        st.floats(0.005, 1.0),
        st.floats(1.0, 8.0),
        st.integers(1, 60),
    ),
    min_size=1,
    max_size=3,
)


@given(histories)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_mixed_histories_agree_with_the_oracle_too(events: list[PrivacyEvent]) -> None:
    ours, theirs = epsilon(rdp_of(events), DELTA), oracle_rdp(events)
    # The oracle gives up on low orders, which only matter where epsilon is so large that it means nothing.
    assert theirs * (0.99 if theirs < 15 else 0.9) <= ours <= theirs * 1.01
    assert ours >= oracle_pld(events)


@given(histories)
@settings(max_examples=8, deadline=None, derandomize=True)
def test_the_tighter_accountant_is_tighter_and_still_a_bound(events: list[PrivacyEvent]) -> None:
    tight = ACCOUNTANTS["pld"](events, DELTA)
    assert oracle_pld(events) * (1 - 1e-6) <= tight <= ACCOUNTANTS["rdp"](events, DELTA)


@pytest.mark.parametrize(("sample_rate", "noise"), [(0.01, 0.5), (0.1, 1.0), (0.5, 1.0), (0.25, 3.0), (0.9, 8.0)])
def test_every_order_agrees_with_the_integral_that_defines_it(sample_rate: float, noise: float) -> None:
    """Renyi divergence of the mixture from the Gaussian, by quadrature (arXiv 1908.10530, equation 2)."""
    orders = np.asarray([order for order in ORDERS if order <= 64])
    z = np.linspace(-12 * noise - 64, 12 * noise + 64, 200_001)
    log_density = -(z**2) / (2 * noise**2) - math.log(noise * math.sqrt(2 * math.pi))
    log_ratio = np.logaddexp(math.log1p(-sample_rate), math.log(sample_rate) + (2 * z - 1) / (2 * noise**2))
    moments = [logsumexp(log_density + order * log_ratio) + math.log(z[1] - z[0]) for order in orders]
    assert rdp(sample_rate, noise, 1)[: len(orders)] == pytest.approx(moments / (orders - 1), rel=1e-6, abs=2e-10)


def test_a_histogram_over_everything_is_the_plain_gaussian_mechanism() -> None:
    assert rdp(1.0, 2.0, 1) == pytest.approx(np.asarray(ORDERS) / (2 * 2.0**2))


def test_vectors_of_rounds_add_up_to_the_vector_of_the_run() -> None:
    by_round = sum((rdp(0.1, 1.5, 10) for _ in range(40)), np.zeros(len(ORDERS)))
    assert by_round == pytest.approx(rdp(0.1, 1.5, 400), rel=1e-12)


def test_more_steps_or_less_noise_never_cost_less() -> None:
    costs = [epsilon(rdp(0.1, 1.2, steps), DELTA) for steps in (1, 10, 100, 1000)]
    assert costs == sorted(costs)
    costs = [epsilon(rdp(0.1, sigma, 100), DELTA) for sigma in (8.0, 2.0, 1.0, 0.5)]
    assert costs == sorted(costs)


def test_nothing_spent_is_epsilon_zero() -> None:
    assert epsilon(np.zeros(len(ORDERS)), DELTA) == 0.0
    assert [account([], DELTA) for account in ACCOUNTANTS.values()] == [0.0, 0.0]


@pytest.mark.parametrize("accountant", sorted(ACCOUNTANTS))
@pytest.mark.parametrize(("target", "sample_rate", "steps"), [(8.0, 0.25, 300), (1.0, 0.05, 200), (3.0, 1.0, 40)])
def test_noise_is_enough_and_hardly_more(accountant: str, target: float, sample_rate: float, steps: int) -> None:
    noise = noise_multiplier(target, DELTA, sample_rate, steps, accountant)
    account = ACCOUNTANTS[accountant]
    assert account([PrivacyEvent(sample_rate, noise, steps)], DELTA) <= target
    assert account([PrivacyEvent(sample_rate, noise * 0.9998, steps)], DELTA) > target


def test_rounds_added_one_by_one_stay_within_the_target() -> None:
    noise = noise_multiplier(8.0, DELTA, 0.1, 400)
    total = np.zeros(len(ORDERS))
    for _ in range(40):
        total = total + rdp(0.1, noise, 10)
    assert epsilon(total, DELTA) <= 8.0


def test_the_tighter_accountant_asks_for_less_noise() -> None:
    rdp_noise, pld_noise = (noise_multiplier(8.0, DELTA, 0.25, 300, name) for name in ("rdp", "pld"))
    assert 0.85 * rdp_noise < pld_noise < 0.97 * rdp_noise


def test_what_cannot_be_reached_is_refused() -> None:
    with pytest.raises(PrivacyError, match="cannot be reached"):
        noise_multiplier(1e-6, DELTA, 1.0, 10_000_000)


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("sample_rate", (0.0, 1.0, 1)),
        ("sample_rate", (1.1, 1.0, 1)),
        ("sample_rate", (math.nan, 1.0, 1)),
        ("noise_multiplier", (0.1, 0.0, 1)),
        ("noise_multiplier", (0.1, math.inf, 1)),
        ("noise_multiplier", (0.1, math.nan, 1)),
        ("steps", (0.1, 1.0, 0)),
        ("steps", (0.1, 1.0, 1.5)),
        ("steps", (0.1, 1.0, True)),
    ],
)
def test_impossible_events_are_refused_by_field(field: str, arguments: tuple[float, float, int]) -> None:
    with pytest.raises(PrivacyError, match=field):
        rdp(*arguments)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
@pytest.mark.parametrize("accountant", sorted(ACCOUNTANTS))
def test_impossible_deltas_are_refused(accountant: str, delta: float) -> None:
    with pytest.raises(PrivacyError, match="delta"):
        ACCOUNTANTS[accountant]([PrivacyEvent(0.1, 1.0, 1)], delta)


@pytest.mark.parametrize("vector", [np.zeros(3), np.full(len(ORDERS), np.nan), np.full(len(ORDERS), -1.0)])
def test_a_vector_of_other_orders_is_refused(vector: np.ndarray) -> None:
    with pytest.raises(PrivacyError, match="RDP orders"):
        epsilon(vector, DELTA)


def test_an_unknown_accountant_is_refused() -> None:
    with pytest.raises(PrivacyError, match=r"one of pld, rdp, got 'prv'"):
        check_accountant("prv")


def test_accounting_does_not_import_torch() -> None:
    code = "import sys; from fl_core.privacy.accountant import rdp; rdp(0.1, 1.0, 1); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
