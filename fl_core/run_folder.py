"""A run folder belongs to one process at a time, and begins and goes as a whole.

The lock of ``runs/name`` is the file ``runs/.name.lock`` beside it, so that it outlives the folder: whoever deletes a
run, begins one or goes on with one holds it from before the first look until the end. What a kill leaves of a folder
that was being made or deleted has a hidden name beside it, and goes when the next run of that name begins.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fl_core.errors import RunFolderError
from fl_core.files import held, holder_of, is_held, sync_folder, write_atomic

ASKING_S = 0.3
"""How long a lock is waited for that somebody may hold who only asks whether anybody does."""


@contextmanager
def run_lock(folder: Path, wait_s: float = ASKING_S) -> Iterator[None]:
    """Hold the place of a run, or of a comparison, for this process, whether there is a folder yet or not.

    The operating system lets go of it however the process ends.

    Raises:
        RunFolderError: another process holds it, and still did after ``wait_s`` seconds.
    """
    lock = _beside(folder, "lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with held(lock, lambda: _at_work(folder, lock), wait_s):
        yield


def run_is_locked(folder: Path) -> bool:
    """Whether some process is at work on a run; asking makes no file."""
    return is_held(_beside(folder, "lock"))


def refuse_at_work(folder: Path) -> None:
    """Look whether a run is free, and take nothing.

    Raises:
        RunFolderError: another process is at work on it.
    """
    if run_is_locked(folder):
        raise _at_work(folder, _beside(folder, "lock"))


def begin_run_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put a new run folder that holds ``files`` in the place of whatever is there; only under the run's lock.

    A kill leaves the old folder, none or the new one, and never half of one.

    Raises:
        OSError: the old one cannot be deleted, or the new one not be written.
    """
    place, fresh, old = folder.resolve(), _beside(folder, "new"), _beside(folder, "deleted")
    if place.exists():
        if old.exists():
            shutil.rmtree(old)
        os.rename(place, old)
    for left_over in (old, fresh):
        if left_over.exists():
            shutil.rmtree(left_over)
    try:
        for name, data in files.items():
            write_atomic(fresh / name, data)
        os.rename(fresh, place)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    sync_folder(place.parent)


def overwriting_was_interrupted(folder: Path) -> bool:
    """Whether a run that was to be replaced is gone, and the one in its place was never begun."""
    return not folder.exists() and _beside(folder, "deleted").exists()


def _beside(folder: Path, what: str) -> Path:
    place = folder.resolve()  # the same run by whatever way it is reached
    return place.with_name(f".{place.name}.{what}")


def _at_work(folder: Path, lock: Path) -> RunFolderError:
    who = holder_of(lock)
    process = f"another process ({who})" if who else "another process"
    return RunFolderError(f"{folder}: {process} is at work on it; nothing was changed")
