"""Sums do not depend on order, stay within a step of the exact mean, and refuse what would overflow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.errors import UpdateRejectedError
from fl_core.tree import FRACTION_BITS, FixedPointSum, digest, norm

rows = st.lists(
    st.tuples(
        st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3), st.integers(1, 5000)
    ),
    min_size=1,
    max_size=8,
)  # fmt: skip


def total(updates: list[tuple[list[float], int]]) -> FixedPointSum:
    result = FixedPointSum()
    for values, weight in updates:
        result = result.add({"w": np.array(values, dtype=np.float32)}, weight)
    return result


@given(rows, st.randoms(use_true_random=False))
def test_mean_has_the_same_bits_in_any_order(updates, random):
    shuffled = list(updates)
    random.shuffle(shuffled)
    assert digest(total(updates).mean()) == digest(total(shuffled).mean())


@given(rows)
def test_mean_is_the_exact_mean_within_one_step_and_float32(updates):
    weights = np.array([weight for _, weight in updates], dtype=np.float64)
    values = np.array([np.float32(v) for v, _ in updates], dtype=np.float64)
    exact = (values * weights[:, None]).sum(0) / weights.sum()
    got = total(updates).mean()["w"]
    assert np.all(np.abs(got - exact) <= 2.0**-FRACTION_BITS + np.abs(exact) * 2.0**-23)


def test_equal_updates_leave_their_value():
    value = np.array([0.125, -3.5], dtype=np.float32)
    result = FixedPointSum()
    for weight in (1, 7, 1000):
        result = result.add({"w": value}, weight)
    np.testing.assert_array_equal(result.mean()["w"], value)


def test_overflow_is_refused_and_leaves_the_sum_as_it_was():
    before = total([([1.0, 2.0, 3.0], 5)])
    with pytest.raises(UpdateRejectedError, match="too large"):
        before.add({"w": np.full(3, 1e6, dtype=np.float32)}, 100_000)
    assert before.mean()["w"].tolist() == [1.0, 2.0, 3.0]


def test_adding_does_not_change_the_sum_that_was_added_to():
    first = total([([1.0, 2.0, 3.0], 5)])
    first.add({"w": np.ones(3, dtype=np.float32)}, 1)
    assert first.mean()["w"].tolist() == [1.0, 2.0, 3.0]


def test_norm_counts_all_tensors_together():
    assert norm({"a": np.array([3.0], np.float32), "b": np.array([4.0], np.float32)}) == pytest.approx(5.0)
