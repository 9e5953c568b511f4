"""The statistics that the benchmarks print: equal to the reference, honest about ties and about too few seeds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from shared.paired import difference, spread

INT8 = (0.951, 0.948, 0.957, 0.950, 0.944)
FLOAT = (0.953, 0.947, 0.958, 0.953, 0.944)


def test_spread_is_mean_and_sample_deviation() -> None:
    found = spread(INT8)
    assert found.mean == pytest.approx(np.mean(INT8))
    assert found.std == pytest.approx(np.std(INT8, ddof=1))
    assert found.count == 5


def test_one_value_has_no_spread_and_none_is_refused() -> None:
    assert spread([0.5]).std == 0.0
    with pytest.raises(ValueError, match="at least one"):
        spread([])


def test_difference_is_the_paired_t_interval() -> None:
    found = difference(INT8, FLOAT)
    reference = stats.ttest_rel(INT8, FLOAT).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high))
    one_sided = stats.ttest_rel(INT8, FLOAT, alternative="greater").confidence_interval(0.95)
    assert found.lower_bound == pytest.approx(one_sided.low)
    assert found.low < found.lower_bound < found.mean


def test_not_worse_by_agrees_with_the_one_sided_test() -> None:
    for margin in (0.0, 0.001, 0.002, 0.003, 0.005):
        p = stats.ttest_rel(np.add(INT8, margin), FLOAT, alternative="greater").pvalue
        assert difference(INT8, FLOAT).not_worse_by(margin) == (p <= 0.05)


def test_pairing_takes_out_what_the_seeds_share() -> None:
    hard_and_easy = np.array([0.5, 0.6, 0.7, 0.8, 0.9])
    assert difference(hard_and_easy - 0.004, hard_and_easy).not_worse_by(0.005)
    assert not difference(hard_and_easy - 0.006, hard_and_easy).not_worse_by(0.005)


def test_an_exact_tie_with_the_margin_holds() -> None:
    assert difference([0.5, 0.5, 0.5], [0.505, 0.505, 0.505]).not_worse_by(0.005)


def test_the_bound_covers_the_truth_as_often_as_it_says() -> None:
    draw = np.random.default_rng(7)
    trials = 2000
    covered = sum(
        difference(draw.normal(-0.01, 0.02, 5).tolist(), [0.0] * 5).lower_bound <= -0.01 for _ in range(trials)
    )
    assert stats.binomtest(covered, trials, 0.95).pvalue > 0.001


@pytest.mark.parametrize(("first", "second"), [((0.5,), (0.5,)), ((), ()), ((0.5, 0.6), (0.5, 0.6, 0.7))])
def test_a_comparison_without_pairs_is_refused(first: tuple[float, ...], second: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="two or more pairs"):
        difference(first, second)
