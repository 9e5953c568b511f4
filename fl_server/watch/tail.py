"""The tail of a run's events: what another process has written since, through restarts and truncations of the file.

A resumed run cuts off what came after its checkpoint. The tail then reads the file from its start again, so
that nothing of a round that did not count is counted.
"""

from __future__ import annotations

import os
from pathlib import Path

from fl_core.event_lines import parse_event
from fl_core.runlog import Event


class EventTail:
    """Reads the events of ``run_dir`` as they come."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / "events.jsonl"
        self._read_bytes = 0
        self._last = b""
        self._lines = 0

    def poll(self) -> tuple[bool, list[Event]]:
        """Whether what was read before still holds, and the events that are new since.

        Raises:
            RunFolderError: a whole line is not the event that comes next.
        """
        if not self._path.is_file():
            held = self._read_bytes == 0
            self._start_over()
            return held, []
        with self._path.open("rb") as file:
            held = self._still_holds(file.fileno())
            if not held:
                self._start_over()
            file.seek(self._read_bytes)
            lines = [line for line in file if line.endswith(b"\n")]
        self._read_bytes += sum(map(len, lines))
        self._last = lines[-1] if lines else self._last
        before, self._lines = self._lines, self._lines + len(lines)
        return held, [parse_event(line, self._path, number) for number, line in enumerate(lines, before + 1)]

    def _still_holds(self, descriptor: int) -> bool:
        at = self._read_bytes - len(self._last)
        return os.pread(descriptor, len(self._last), at) == self._last

    def _start_over(self) -> None:
        self._read_bytes = self._lines = 0
        self._last = b""
