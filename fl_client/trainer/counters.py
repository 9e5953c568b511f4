"""What a resident trainer counts of itself, across restarts too, and what its data set has spent.

The figures are private: they leave the device neither in an update nor in an answer to a server.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fl_core.files import write_json


@dataclass(frozen=True)
class Spending:
    """What a device's data set has spent, and the most that it may ever spend; both at ``delta``."""

    epsilon: float | None
    """None where noise comes from named seeds: nothing is private then, whatever the ledger counts."""
    cap: float
    delta: float
    simulated: bool
    """True where noise comes from named seeds."""

    def in_words(self) -> str:
        """What a lost task leaves behind, for the device's own log."""
        if self.epsilon is None:
            return "its noise came from named seeds, which protect nobody"
        return f"what it reserved stays spent, with it epsilon {self.epsilon:.2f} of {self.cap:g}"


@dataclass
class TaskCounts:
    """Counters that only grow, kept in a file."""

    starts: int = 0
    tasks: int = 0
    refused: int = 0
    failed: int = 0
    last_round: int = 0
    last_run: str = ""
    last_task_time: float = 0.0
    """When the last task ended, in seconds since 1970."""


class TaskCounters:
    """The counters of the trainer whose file is ``path``; a damaged file starts them again, for nothing hangs on it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._counts = _read(path)
        self._counts.starts += 1
        self._write()

    def finished(self, run: str, round: int) -> None:
        """A task of ``round`` has its result."""
        with self._lock:
            self._counts.tasks += 1
            self._counts.last_run, self._counts.last_round = run, round
            self._counts.last_task_time = time.time()
            self._write()

    def refused(self) -> None:
        """A plan was refused."""
        with self._lock:
            self._counts.refused += 1
            self._write()

    def failed(self) -> None:
        """A task ended in an error."""
        with self._lock:
            self._counts.failed += 1
            self._write()

    def figures(self) -> Mapping[str, Any]:
        """All counters with the seconds since this start, as plain values."""
        with self._lock:
            return {**asdict(self._counts), "uptime_s": round(time.monotonic() - self._began, 3)}

    def _write(self) -> None:
        """A full disk must not cost a task its result: a counter that cannot be kept is kept in memory alone."""
        try:
            write_json(self._path, asdict(self._counts))
        except OSError:
            return


def _read(path: Path) -> TaskCounts:
    try:
        return TaskCounts(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return TaskCounts()
