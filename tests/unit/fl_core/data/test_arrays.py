"""Arrays become what torch takes: the same values, once, and without a copy where they are that already."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fl_core.data.arrays import input_problem, plain, target_problem

X = np.arange(24, dtype=np.float32).reshape(4, 2, 3)


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.setflags(write=False)
    return array


ODD: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "flipped": lambda x: x[:, :, ::-1],
    "flipped back to front": lambda x: np.flip(x),
    "every other": lambda x: np.repeat(x, 2, axis=2)[:, :, ::2],
    "transposed": lambda x: x.transpose(0, 2, 1),
    "Fortran order": np.asfortranarray,
    "big endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "big endian, flipped": lambda x: x.astype(x.dtype.newbyteorder(">"))[::-1],
    "read-only": read_only,
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
    "of bytes": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "nothing masked": lambda x: np.ma.masked_less(x, -1),
    "nothing masked, flipped": lambda x: np.ma.masked_less(x, -1)[::-1],
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD.keys())
def test_every_form_keeps_its_values_and_is_a_tensor_without_a_word(make: Callable[[np.ndarray], np.ndarray]) -> None:
    odd = make(X)
    found = plain(odd)
    np.testing.assert_array_equal(found, np.asarray(odd))
    assert type(found) is np.ndarray
    assert found.dtype == np.float32
    assert input_problem(odd) == ""
    assert torch.from_numpy(found).is_contiguous()


@pytest.mark.parametrize("kind", ["<i8", ">i4", "uint8", ">f8"])
def test_targets_keep_their_values_and_their_kind(kind: str) -> None:
    y = np.arange(6).astype(kind)[::-1]
    assert target_problem(y) == ""
    assert plain(y).dtype == y.dtype.newbyteorder("=")
    assert plain(y).tolist() == y.tolist()


def test_what_is_plain_already_is_not_copied() -> None:
    assert plain(X) is X


@pytest.mark.parametrize("rows", [slice(None), slice(1, 3)])
def test_a_read_only_file_in_memory_stays_on_disk(tmp_path: Path, rows: slice) -> None:
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")[rows]
    found = plain(mapped)
    np.testing.assert_array_equal(found, X[rows])
    assert isinstance(found.base, np.memmap)
    found[:] = 7  # a copy of the process's own
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), X)


def test_a_file_in_memory_that_has_been_moved_is_copied(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    (tmp_path / "x.npy").rename(tmp_path / "y.npy")
    np.testing.assert_array_equal(plain(mapped), X)


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (X.tolist(), "as a numpy array, got list"),
        (torch.zeros(4, 2), "as a numpy array, got Tensor"),
        (np.ma.masked_less(X, 3), "without masked values, got 3 of 24 masked"),
        (X.astype(np.float64), r"float32, which .astype\(np.float32\) makes of them, got float64"),
        (X.astype(np.float16), "got float16"),
        (X.astype(np.uint8), "got uint8"),
        (X.astype(object), "float32, got object"),
        (X.astype(str), "float32, got <U"),
        (X[:, 0, 0], r"of shape \[N, \.\.\.\] .* got shape \(4,\)"),
        (X[:, :0], r"got shape \(4, 0, 3\)"),
        (np.float32(1), "got float32"),
        (np.array(1, np.float32), r"got shape \(\)"),
    ],
)
def test_what_is_no_inputs_says_why(x: object, says: str) -> None:
    with pytest.raises(ValueError, match=f"expected inputs .*{says}"):
        raise ValueError(input_problem(x))


def test_a_single_number_is_no_targets() -> None:
    assert "one for each example" in target_problem(np.array(1))
    assert "got int64" in target_problem(np.int64(1))
