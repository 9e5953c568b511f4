"""Where a file of a running process holds: on this machine, since its last boot, and in this very folder.

A folder that is copied, on a card or beside itself, takes its files along. What they say of processes is about the
original's, which the copy must neither believe nor end.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Place:
    """A folder of this machine since its last boot; a copy of the folder is another place."""

    boot_id: str
    folder: str
    device: int
    inode: int

    @classmethod
    def of(cls, folder: Path) -> Place:
        """The place of a folder that is there, right now.

        Raises:
            OSError: it is not there.
        """
        found = folder.stat()
        return cls(_BOOT_ID.read_text(encoding="ascii").strip(), str(folder.resolve()), found.st_dev, found.st_ino)
