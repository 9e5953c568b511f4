"""Every partition deals every example once, keeps its promises about sizes, and depends on its generator alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_core.data.partition import PARTITION_KINDS, PartitionSpec, dirichlet, hold_out, iid, shards, split
from fl_core.errors import DataError

DEALT = [kind for kind in PARTITION_KINDS if kind != "natural"]


def labels(count: int, classes: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, classes, count)


def spec(kind: str, **values: object) -> PartitionSpec:
    return PartitionSpec(kind=kind, **({"clients": 6, "min_examples": 2} | values))


@pytest.mark.parametrize("kind", DEALT)
@given(count=st.integers(120, 300), clients=st.integers(1, 8), seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_every_row_is_dealt_exactly_once(kind: str, count: int, clients: int, seed: int) -> None:
    parts = split(labels(count), spec(kind, clients=clients, alpha=2.0), np.random.default_rng(seed))
    assert len(parts) == clients
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(count))


@pytest.mark.parametrize("kind", DEALT)
def test_same_generator_same_parts_another_generator_other_parts(kind: str) -> None:
    first, again, other = (split(labels(200), spec(kind), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_iid_sizes_differ_by_at_most_one() -> None:
    sizes = [len(part) for part in iid(103, 10, np.random.default_rng(0))]
    assert max(sizes) - min(sizes) == 1


@pytest.mark.parametrize("seed", range(5))
def test_dirichlet_gives_every_client_its_minimum(seed: int) -> None:
    parts = dirichlet(labels(1000), 10, 0.3, np.random.default_rng(seed), min_examples=32)
    assert min(len(part) for part in parts) >= 32


def test_smaller_alpha_is_more_uneven() -> None:
    label_N = labels(2000)

    def unevenness(alpha: float) -> float:
        parts = dirichlet(label_N, 8, alpha, np.random.default_rng(5))
        shares = np.array([np.bincount(label_N[part], minlength=5) / len(part) for part in parts])
        return float(shares.std(axis=0).mean())

    assert unevenness(0.1) > 2 * unevenness(10.0)


def test_dirichlet_says_when_the_minimum_cannot_be_met() -> None:
    with pytest.raises(DataError, match="raise alpha"):
        dirichlet(labels(100, classes=2), 10, 0.01, np.random.default_rng(0), min_examples=10)


def test_shards_limit_the_classes_of_a_client() -> None:
    label_N = np.repeat(np.arange(10), 100)
    parts = shards(label_N, 10, 2, np.random.default_rng(0))
    # A shard of 50 lies within one class, so two shards hold two classes at most.
    assert max(len(np.unique(label_N[part])) for part in parts) <= 2


def test_hold_out_takes_the_share_and_never_everything() -> None:
    rows = np.arange(40, 60)
    train, test = hold_out(rows, 0.25, np.random.default_rng(0))
    assert len(test) == 5
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), rows)
    train, test = hold_out(rows[:1], 0.9, np.random.default_rng(0))
    assert (len(train), len(test)) == (1, 0)


@pytest.mark.parametrize(
    ("kind", "values"), [("iid", {"clients": 60}), ("dirichlet", {"min_examples": 50}), ("shards", {"clients": 101})]
)
def test_too_few_examples_are_refused(kind: str, values: dict[str, int]) -> None:
    with pytest.raises(DataError, match="need"):
        split(labels(100), spec(kind, **values), np.random.default_rng(0))


@pytest.mark.parametrize("kind", ["dirichlet", "shards"])
def test_parts_by_class_need_classes(kind: str) -> None:
    with pytest.raises(DataError, match="expected one class number"):
        split(np.linspace(0, 1, 100), spec(kind), np.random.default_rng(0))


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "even"},
        {"kind": "iid"},
        {"alpha": 0.0},
        {"shards_per_client": 0},
        {"min_examples": 0},
        {"client_test": 1},
    ],
)
def test_spec_names_the_field_that_is_out_of_range(values: dict[str, object]) -> None:
    field = "clients" if values == {"kind": "iid"} else next(iter(values))
    with pytest.raises(ValueError, match=f"data.partition.{field}: expected"):
        PartitionSpec(**values)


@pytest.mark.parametrize("values", [{"clients": 4}, {"alpha": 0.5}, {"min_examples": 2}, {"client_test": 0.2}])
def test_fields_that_natural_clients_would_ignore_are_refused(values: dict[str, object]) -> None:
    (field,) = values
    with pytest.raises(ValueError, match=f"^data.partition.{field}: expected a data.partition.kind that deals"):
        PartitionSpec(**values)


def test_natural_clients_are_what_a_spec_of_defaults_means() -> None:
    assert PartitionSpec("natural", None, 0.3, 2, 32, 0.0) == PartitionSpec()
