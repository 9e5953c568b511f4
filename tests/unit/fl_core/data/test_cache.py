"""Packaged files and cached arrays are used only when they are the expected ones; no cache is only slower."""

from __future__ import annotations

import hashlib
import os
import pwd
import sys
from pathlib import Path

import numpy as np
import pytest

from fl_core.data.cache import cache_folder, cached_arrays, digest
from fl_core.errors import DataError
from fl_core.packaged import packaged_bytes

ARRAYS = {"a": np.arange(6, dtype=np.int64).reshape(2, 3), "b": np.array([0.5, -1.0], np.float32)}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "stonecrop"


class Source:
    """Counts how often the arrays are made anew."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> dict[str, np.ndarray]:
        self.made += 1
        return {name: value.copy() for name, value in ARRAYS.items()}

    def read(self) -> dict[str, np.ndarray]:
        return cached_arrays("toy", digest(ARRAYS), self)


def same(arrays: dict[str, np.ndarray]) -> bool:
    return arrays.keys() == ARRAYS.keys() and all(np.array_equal(arrays[name], ARRAYS[name]) for name in ARRAYS)


def test_second_read_comes_from_the_cache(cache: Path) -> None:
    source = Source()
    assert same(source.read())
    assert same(source.read())
    assert source.made == 1
    assert [path.suffix for path in cache.iterdir()] == [".npz"]


@pytest.mark.parametrize("damage", ["other values", "truncated", "rubbish", "empty"])
def test_damaged_cache_is_made_again(cache: Path, damage: str) -> None:
    source = Source()
    source.read()
    (stored,) = cache.iterdir()
    whole = stored.read_bytes()
    if damage == "other values":
        with stored.open("wb") as file:
            np.savez(file, **{**ARRAYS, "b": ARRAYS["b"] + 1})
    else:
        stored.write_bytes({"truncated": whole[: len(whole) // 2], "rubbish": b"rubbish", "empty": b""}[damage])
    assert same(source.read())
    assert source.made == 2
    assert same(source.read())
    assert source.made == 2


def test_pickled_cache_is_not_opened(cache: Path) -> None:
    source = Source()
    source.read()
    (stored,) = cache.iterdir()
    with stored.open("wb") as file:
        np.savez(file, a=np.array([{"code": 1}], dtype=object))
    assert same(source.read())


def test_folder_that_cannot_be_made_costs_time_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    source = Source()
    assert same(source.read())
    assert same(source.read())
    assert source.made == 2


def test_relative_cache_home_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    assert cache_folder() == Path(os.path.expanduser("~/.cache/stonecrop"))


def test_a_user_without_a_home_folder_has_no_cache_and_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    monkeypatch.chdir(tmp_path)
    assert cache_folder() is None
    source = Source()
    assert same(source.read())
    assert same(source.read())
    assert (source.made, list(tmp_path.iterdir())) == (2, [])


def test_converted_arrays_of_another_digest_are_refused() -> None:
    with pytest.raises(DataError, match="data toy: expected converted arrays"):
        cached_arrays("toy", "0" * 64, Source())


def test_digest_tells_names_types_shapes_and_values_apart() -> None:
    others = [
        {"a": ARRAYS["a"], "c": ARRAYS["b"]},
        {**ARRAYS, "b": ARRAYS["b"].astype(np.float64)},
        {**ARRAYS, "a": ARRAYS["a"].reshape(3, 2)},
        {**ARRAYS, "b": ARRAYS["b"] + 1},
    ]
    assert len({digest(arrays) for arrays in [ARRAYS, *others]}) == 5
    assert digest({**ARRAYS, "a": np.asfortranarray(ARRAYS["a"]).astype(">i8")}) == digest(ARRAYS)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "shipped_by_test"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (folder / "data.bin").write_bytes(b"expected")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return folder.name


def test_packaged_file_is_read_without_importing(package: str) -> None:
    assert packaged_bytes(package, "data.bin", hashlib.sha256(b"expected").hexdigest()) == b"expected"


def test_tampered_file_is_refused_by_hash(package: str) -> None:
    with pytest.raises(DataError, match=f"expected SHA-256 {'0' * 64}, got"):
        packaged_bytes(package, "data.bin", "0" * 64)


def test_missing_file_and_package_are_named(package: str) -> None:
    with pytest.raises(DataError, match=r"other\.bin"):
        packaged_bytes(package, "other.bin", "0" * 64)
    with pytest.raises(DataError, match="no_such_package_here"):
        packaged_bytes("no_such_package_here", "data.bin", "0" * 64)
