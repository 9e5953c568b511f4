"""What a process prints, in a file that stays small however long the process runs: an SD card is to last for years.

A process cannot be asked to open another file, so what it printed is copied beside the file, over what was there from
the time before, and the file starts anew where it is. Lines that come in that moment may be lost.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

LOG_LIMIT_BYTES = 1_000_000
"""The most that one log file holds, but for what comes between two looks at it."""
_TAIL_BYTES = 8000


@dataclass
class BoundedLog:
    """The log file at ``path``, and one beside it for the lines before."""

    path: Path
    _from_bytes: int = field(default=0, init=False)
    """Where the words of the latest process begin."""

    @property
    def before(self) -> Path:
        """Where the lines before those of ``path`` are, if there were any."""
        return self.path.with_name(f"{self.path.name}.1")

    def open(self) -> BinaryIO:
        """Open the file for one more process, whose every write goes to its end.

        Raises:
            OSError: it cannot be opened.
        """
        file = self.path.open("ab")
        self._from_bytes = file.tell()
        return file

    def bound(self) -> None:
        """Start anew a file that holds more than the limit. On a full disk the old lines are lost, and make room."""
        try:
            if self.path.stat().st_size <= LOG_LIMIT_BYTES:
                return
        except OSError:
            return
        try:
            shutil.copyfile(self.path, self.before)
        except OSError:
            with suppress(OSError):
                self.before.unlink()
        with suppress(OSError):
            os.truncate(self.path, 0)
        self._from_bytes = 0

    def tail(self) -> str:
        """The last words of the latest process."""
        with suppress(OSError), self.path.open("rb") as file:
            file.seek(max(self._from_bytes, self.path.stat().st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace")
        return ""
