"""Arrays that are slow to make, kept in the user's cache folder as an npz without pickle.

The cache is never trusted: what it holds is checked before use, by the hash of its contents, and made again when it
is wrong. Without a home folder or a writable cache everything works, only slower.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from fl_core.errors import DataError
from fl_core.types import Array


def digest(arrays: Mapping[str, Array]) -> str:
    """SHA-256 of names, types, shapes and values: the same on every machine."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        array = array.astype(array.dtype.newbyteorder("<"))
        total.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def cached_arrays(name: str, expected: str, convert: Callable[[], dict[str, Array]]) -> dict[str, Array]:
    """The arrays that ``convert`` makes, from the cache where they are there and whole.

    Raises:
        DataError: what ``convert`` made does not have the ``expected`` digest either.
    """
    folder = cache_folder()
    path = None if folder is None else folder / f"{name}-{expected[:12]}.npz"
    arrays = None if path is None else _read(path)
    if arrays is not None and digest(arrays) == expected:
        return arrays
    arrays = convert()
    found = digest(arrays)
    if found != expected:
        raise DataError(f"data {name}: expected converted arrays of digest {expected}, got {found}")
    if path is not None:
        with contextlib.suppress(OSError):  # no cache is a slower start, not a failure
            _write(path, arrays)
    return arrays


def cache_folder() -> Path | None:
    """``$XDG_CACHE_HOME/stonecrop``, or ``~/.cache/stonecrop``; None where this user has no home folder."""
    # The XDG specification has relative paths ignored, and the home of a user that nobody knows stays "~".
    folders = (os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache"))
    return next((Path(folder) / "stonecrop" for folder in folders if os.path.isabs(folder)), None)


def _read(path: Path) -> dict[str, Array] | None:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write(path: Path, arrays: Mapping[str, Array]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
