"""Files that a crash or a full disk leaves whole: atomic writes, secrets, JSON, and locks, each held by one process."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fl_core.errors import RunFolderError, StonecropError
from fl_core.storage import naming

_LOCK = ".lock"
LOCK_POLL_S = 0.1


@contextmanager
def folder_lock(folder: Path, taken: StonecropError, wait_s: float = 0.0) -> Iterator[None]:
    """Hold a folder for this process; the operating system lets go of it however the process ends.

    Raises:
        StonecropError: another process holds it, and still did after ``wait_s`` seconds; that is ``taken``.
    """
    with held(folder / _LOCK, lambda: taken, wait_s):
        yield


def folder_is_locked(folder: Path) -> bool:
    """Whether some process holds a folder."""
    return is_held(folder / _LOCK)


@contextmanager
def held(lock: Path, taken: Callable[[], StonecropError], wait_s: float) -> Iterator[None]:
    """Hold the file ``lock`` for this process, which is made where there is none and never removed.

    Raises:
        StonecropError: another process holds it, and still did after ``wait_s`` seconds; that is ``taken()``.
    """
    ends = time.monotonic() + wait_s
    with lock.open("ab+", buffering=0) as file:
        while not _taken(lock, file.fileno()):
            if time.monotonic() >= ends:
                raise taken()
            time.sleep(LOCK_POLL_S)
        with suppress(OSError):  # who it is helps whoever is refused; on a full disk it cannot be said
            file.truncate(0)
            file.write(f"{os.getpid()} on {os.uname().nodename}".encode())
        yield


def _taken(lock: Path, descriptor: int) -> bool:
    try:
        with naming(lock):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_held(lock: Path) -> bool:
    """Whether some process holds a lock; a process that starts at this very moment waits for its turn.

    Asking makes no file: the folder may be on its way out.
    """
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def holder_of(lock: Path) -> str:
    """Who holds a lock, as "4711 on pi"; empty where that is not known."""
    with suppress(OSError):
        return lock.read_text(encoding="utf-8", errors="replace")
    return ""


def write_atomic(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data`` so that a crash leaves the old or the new content, never a mixture."""
    _replace(path, data, 0o666)  # as far as the umask allows


def write_secret(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data`` with mode 0600, atomically; a crash leaves the old or the new content."""
    _replace(path, data, 0o600)


def sync_folder(folder: Path) -> None:
    """Wait until names that were put into ``folder``, or taken out of it, are on the disk."""
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``, or raise: the operating system may take a part of it before it refuses.

    Raises:
        OSError: it refuses.
    """
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _replace(path: Path, data: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        with naming(path):
            _write_new(temporary, data, mode)
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _write_new(path: Path, data: bytes, mode: int) -> None:
    """A file with ``data``, on the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_atomic(path, (json.dumps(value, indent=2, allow_nan=False, default=plain_scalar) + "\n").encode())


class DamagedFileError(RunFolderError, ValueError):
    """A file that was written here holds something else by now; the message names it."""


def read_json(path: Path, *needed: str) -> dict[str, Any] | None:
    """The object in a JSON file; None where there is no file, or no longer.

    Raises:
        DamagedFileError: the file holds something else, or lacks a field that is ``needed``.
        OSError: it cannot be read.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path}: expected a JSON object, got a damaged file ({error})") from None
    if not isinstance(found, dict):
        raise DamagedFileError(f"{path}: expected a JSON object, got {type(found).__name__}")
    missing = [name for name in needed if name not in found]
    if missing:
        raise DamagedFileError(f"{path}: expected the fields {', '.join(needed)}, got none named {missing[0]}")
    return found


def plain_scalar(value: Any) -> Any:
    """``default`` of ``json.dumps`` that writes a numpy scalar as Python's own.

    Raises:
        TypeError: ``value`` is no scalar.
    """
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"expected plain values in an event, got {type(value).__name__}")
