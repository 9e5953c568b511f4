"""What the operating system refuses, in one line: which path, what it says, what helps, and the command that goes on.

An error of the operating system stays what it is on its way up, so that whoever can do without the file goes on
without it; whoever ends a command or a run turns it into a ``StorageError``. A disk is of the machine and not of a
client: where it is full, it is nobody's update that failed.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from fl_core.errors import StorageError

_ELSEWHERE = "let this user write there, or choose another place"
ADVICE: Mapping[int, str] = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room within this user's quota, or have it raised",
    errno.EFBIG: "raise the size that a file may have (ulimit -f)",
    errno.EROFS: "mount it for writing, or choose another place",
    errno.EACCES: _ELSEWHERE,
    errno.EPERM: _ELSEWHERE,
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "a file stands where a folder is needed: move it, or choose another place",
    errno.EISDIR: "a folder stands where a file is needed: move it, or choose another place",
    errno.EBUSY: "choose another place: another file system begins there",
    errno.EMFILE: "raise how many files a process may open (ulimit -n)",
    errno.EIO: "make room there, or see to the disk",
}
"""What helps, by the number of the error."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)  # SQLite has the last one for a full disk too


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error of the operating system inside say that it is about ``path``.

    Raises:
        OSError: what was raised inside.
    """
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def storage_error(error: OSError, then: str = "call the same command again") -> StorageError:
    """An error of the operating system as a line for people.

    Args:
        error: what was raised.
        then: how to go on once it is mended.
    """
    path = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes, os.PathLike)) else ""
    says = error.strerror or str(error) or type(error).__name__
    room = _room(path) if path and error.errno in _FULL else ""
    advice = ADVICE.get(error.errno or 0, "mend that")
    return StorageError(f"{path + ': ' if path else ''}{says}{room}; {advice}, then {then}")


def _room(path: str) -> str:
    """How much is free where ``path`` lies, or would lie."""
    place = Path(path).absolute()
    with suppress(OSError):
        while not place.exists():
            place = place.parent
        if os.statvfs(place).f_files and not os.statvfs(place).f_favail:
            return " (no file more fits on its file system)"
        usage = shutil.disk_usage(place)
        return f" ({_in_bytes(usage.free)} of {_in_bytes(usage.total)} free)"
    return ""


def _in_bytes(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} B"
