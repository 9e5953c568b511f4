"""What every noise source promises: standard normal, independent draws, and an exact Poisson sample."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from fl_core.rng import NoiseSource, SecretNoise, SeededNoise

SOURCES: dict[str, Callable[[], NoiseSource]] = {
    "seeded": lambda: SeededNoise(7, "run", 3, "client 5"),
    "secret": SecretNoise,
}
# The secret source cannot be seeded: its tests fail by chance once in a million runs.
CHANCE = 1e-6


@pytest.fixture(params=sorted(SOURCES))
def source(request: pytest.FixtureRequest) -> NoiseSource:
    return SOURCES[request.param]()


def test_draws_are_standard_normal(source: NoiseSource) -> None:
    draws = source.normal(0, "weight", (200_000,))
    assert draws.dtype == np.float64
    assert stats.kstest(draws, "norm").pvalue > CHANCE


def test_variance_is_one(source: NoiseSource) -> None:
    count = 400_000
    low, high = stats.chi2.ppf([CHANCE / 2, 1 - CHANCE / 2], count)
    assert low < float((source.normal(0, "weight", (count,)) ** 2).sum()) < high


@pytest.mark.parametrize("lag", [1, 2, 1 << 14, 1 << 15])
def test_draws_are_not_correlated(source: NoiseSource, lag: int) -> None:
    draws = source.normal(0, "weight", (100_000,))
    limit = float(stats.norm.isf(CHANCE / 2)) / np.sqrt(len(draws) - lag)
    assert abs(float(np.mean(draws[:-lag] * draws[lag:]))) < limit
    squares = draws**2 - 1  # a shared radius would show in the squares
    assert abs(float(np.mean(squares[:-lag] * squares[lag:]))) < 2 * limit


@pytest.mark.parametrize("shape", [(), (1,), (3, 0), (2, 3, 4), (32_769,)])
def test_shape_is_what_was_asked_for(source: NoiseSource, shape: tuple[int, ...]) -> None:
    draws = source.normal(0, "weight", shape)
    assert draws.shape == shape
    assert np.isfinite(draws).all()


def test_steps_and_tensors_do_not_share_draws(source: NoiseSource) -> None:
    draws = [source.normal(step, name, (64,)) for step in range(3) for name in ("a", "b")]
    assert len({draw.tobytes() for draw in draws}) == len(draws)


@pytest.mark.parametrize("sample_rate", [0.01, 0.3, 0.9])
def test_sample_has_the_binomial_size(source: NoiseSource, sample_rate: float) -> None:
    count = 100_000
    mask = source.poisson_mask(0, count, sample_rate)
    assert mask.dtype == np.bool_
    assert stats.binomtest(int(mask.sum()), count, sample_rate).pvalue > CHANCE


def test_samples_of_two_steps_are_independent(source: NoiseSource) -> None:
    first, second = (source.poisson_mask(step, 100_000, 0.5) for step in (0, 1))
    assert stats.binomtest(int((first & second).sum()), 100_000, 0.25).pvalue > CHANCE


def test_sample_rate_one_takes_everything(source: NoiseSource) -> None:
    assert source.poisson_mask(0, 1000, 1.0).all()


def test_no_examples_give_an_empty_sample(source: NoiseSource) -> None:
    assert source.poisson_mask(0, 0, 0.5).shape == (0,)


@pytest.mark.parametrize("sample_rate", [0.0, -0.1, 1.1, float("nan")])
def test_impossible_sample_rate_is_refused(source: NoiseSource, sample_rate: float) -> None:
    with pytest.raises(ValueError, match="sample_rate"):
        source.poisson_mask(0, 10, sample_rate)
