"""Federations are made by name or by a user's factory, dealt by partition, and checked."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy

from fl_core.data.datasets import DATASETS, build_federation
from fl_core.data.federation import ClientData, Federation
from fl_core.data.partition import PartitionSpec
from fl_core.errors import ConfigError, DataError

IID = PartitionSpec("iid", clients=10)


def rows(federation: Federation) -> np.ndarray:
    parts = [part for client in federation.clients.values() for part in (client.train, client.test) if part]
    return np.concatenate([part.x.reshape(len(part), -1) for part in parts])


@pytest.mark.parametrize("kind", ["iid", "dirichlet", "shards"])
def test_mnist_is_dealt_once_and_its_test_set_is_balanced_and_apart(kind: str) -> None:
    federation = build_federation("mnist", None, {}, PartitionSpec(kind, clients=10, client_test=0.2), seed=3)
    assert federation.test is not None
    assert np.bincount(federation.test.y).tolist() == [100] * 10
    assert federation.input_shape == (1, 28, 28)
    assert list(federation.clients) == [f"client-{number:02d}" for number in range(10)]
    every = np.concatenate([rows(federation), federation.test.x.reshape(1000, -1)])
    assert len(every) == 5000
    # MNIST itself has no image twice among these 5,000, so every image is in one place.
    assert len(np.unique(every, axis=0)) == 5000
    for client in federation.clients.values():
        assert client.test is not None
        assert len(client.test) == round(0.2 * (len(client.train) + len(client.test)))


def test_seed_decides_everything() -> None:
    first, again, other = (build_federation("mnist", None, {}, IID, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(rows(first), rows(again))
    np.testing.assert_array_equal(first.test.x, again.test.x)
    assert not np.array_equal(first.test.x, other.test.x)


def test_args_win_over_the_seed_of_the_run() -> None:
    fixed = [build_federation("mnist", None, {"seed": 9, "test_examples": 100}, IID, seed) for seed in (1, 2)]
    np.testing.assert_array_equal(fixed[0].test.x, fixed[1].test.x)
    assert not np.array_equal(rows(fixed[0]), rows(fixed[1]))


def test_pool_has_no_natural_clients() -> None:
    with pytest.raises(ConfigError, match=r"data\.partition\.kind: mnist is one pool"):
        build_federation("mnist", None, {}, PartitionSpec(), seed=1)


def test_clients_with_a_test_of_their_own_are_not_dealt_anew() -> None:
    with pytest.raises(DataError, match="expected natural, got iid"):
        build_federation("smartwatch", None, {}, IID, seed=1)


@pytest.mark.parametrize("examples", [0, 15, 5000])
def test_test_set_that_cannot_be_balanced_is_refused(examples: int) -> None:
    with pytest.raises(ConfigError, match="multiple of 10"):
        build_federation("mnist", None, {"test_examples": examples}, IID, seed=1)


FACTORY = """
import numpy as np
from fl_core.data.federation import ClientData, Examples, Federation

def two(size=40, seed=0):
    draw = np.random.default_rng(seed)
    def part():
        return Examples(draw.random((size, 3), dtype=np.float32), draw.integers(0, 2, size))
    return Federation({"a": ClientData(part()), "b": ClientData(part())}, labels=("no", "yes"))

def wrong():
    return {"a": 1}

def nobody():
    return Federation({})
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "users_own_data.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "users_own_data"
    sys.modules.pop("users_own_data", None)


def test_factory_in_the_working_directory_keeps_its_clients(module: str) -> None:
    federation = build_federation(None, f"{module}:two", {"size": 7}, PartitionSpec(), seed=4)
    assert {name: len(client.train) for name, client in federation.clients.items()} == {"a": 7, "b": 7}
    other = build_federation(None, f"{module}:two", {"size": 7}, PartitionSpec(), seed=5)
    assert not np.array_equal(rows(federation), rows(other))


def test_factory_may_be_dealt_anew(module: str) -> None:
    federation = build_federation(None, f"{module}:two", {}, PartitionSpec("iid", clients=4, min_examples=5), seed=4)
    natural = build_federation(None, f"{module}:two", {}, PartitionSpec(), seed=4)
    assert [len(client.train) for client in federation.clients.values()] == [20] * 4
    np.testing.assert_array_equal(np.unique(rows(federation), axis=0), np.unique(rows(natural), axis=0))
    assert federation.labels == ("no", "yes")


@pytest.mark.parametrize(
    ("factory", "args", "error", "says"),
    [
        ("users_own_data:wrong", {}, DataError, "expected a Federation, got dict"),
        ("users_own_data:nobody", {}, DataError, "expected clients, a test set"),
        ("users_own_data:two", {"sise": 3}, ConfigError, "sise"),
        ("users_own_data:three", {}, ConfigError, "three"),
        ("no_such_module_here:two", {}, ConfigError, "data.factory"),
        ("minst", {}, ConfigError, "did you mean 'mnist'"),
    ],
)
def test_what_is_wrong_is_named(
    module: str, factory: str, args: dict[str, object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        build_federation(*((None, factory) if ":" in factory else (factory, None)), args, PartitionSpec(), seed=1)


def test_every_data_set_says_in_words_what_is_protected() -> None:
    for name in set(DATASETS) - {"hub"}:
        federation = build_federation(name, None, {}, PartitionSpec() if name == "smartwatch" else IID, seed=1)
        assert federation.unit != Federation.unit
        assert federation.not_hidden


class Shelf(Mapping[str, ClientData]):
    """A user's own mapping that loads a client when it is asked for one, and cannot load one of them."""

    def __init__(self, broken: str, error: Exception) -> None:
        self._broken, self._error, self._loaded = broken, error, toy.data().clients

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded)

    def __len__(self) -> int:
        return len(self._loaded)

    def __getitem__(self, name: str) -> ClientData:
        if name == self._broken:
            raise self._error
        return self._loaded[name]


@pytest.mark.parametrize("error", [OSError("disk gone"), KeyError("row 3"), SystemExit(2)])
def test_a_mapping_that_fails_is_the_factorys_error_with_its_client(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = replace(toy.data(), clients=Shelf("client-2", error))
    monkeypatch.setattr(toy, "data", lambda: made)
    says = rf"^data\.factory toy:data: client client-2: {type(error).__name__}.*test_datasets\.py, line \d+"
    with pytest.raises(DataError, match=says):
        build_federation(None, "toy:data", {}, PartitionSpec(), seed=1)


def test_a_factory_may_draw_from_any_global_generator_and_leaves_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn() -> Federation:
        return toy.data(seed=random.randrange(2**31) ^ int(np.random.randint(2**31)))

    monkeypatch.setattr(toy, "drawn", drawn, raising=False)
    before = random.getstate()
    one, again, other = (rows(build_federation(None, "toy:drawn", {}, PartitionSpec(), seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert random.getstate() == before
