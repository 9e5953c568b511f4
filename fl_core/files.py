"""Files that a crash leaves whole: atomic writes, secrets, JSON, and the lock of a folder that one process works in."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fl_core.errors import RunFolderError, StonecropError

LOCK_POLL_S = 0.1


@contextmanager
def run_lock(
    run_dir: Path, wait_s: float = 0.0, taken: str = "another process is at work on this run"
) -> Iterator[None]:
    """Hold a run folder for this process; the operating system lets go of it however the process ends.

    Raises:
        RunFolderError: another process holds it, and still did after ``wait_s``; in the words of ``taken``.
    """
    with folder_lock(run_dir, RunFolderError(f"{run_dir}: {taken}"), wait_s):
        yield


@contextmanager
def folder_lock(folder: Path, taken: StonecropError, wait_s: float = 0.0) -> Iterator[None]:
    """Hold a folder for this process; the operating system lets go of it however the process ends.

    Raises:
        StonecropError: another process holds it, and still did after ``wait_s`` seconds; that is ``taken``.
    """
    ends = time.monotonic() + wait_s
    with (folder / ".lock").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= ends:
                    raise taken from None
                time.sleep(LOCK_POLL_S)
        yield


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


def _replace(path: Path, data: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_atomic(path, (json.dumps(value, indent=2, allow_nan=False, default=plain_scalar) + "\n").encode())


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None where there is no file, or no longer.

    Raises:
        ValueError, TypeError: the file holds something else.
        OSError: it cannot be read.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def plain_scalar(value: Any) -> Any:
    """``default`` of ``json.dumps`` that writes a numpy scalar as Python's own.

    Raises:
        TypeError: ``value`` is no scalar.
    """
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"expected plain values in an event, got {type(value).__name__}")
