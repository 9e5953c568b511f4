"""The lease of the node that a board's SuperNode holds at the SuperLink, given back for a SuperNode that was killed.

A SuperLink counts a SuperNode as connected until its heartbeat runs out, for up to a minute, and meanwhile answers 412
to another one with its key. That keeps a second device with copied files out, and a killed SuperNode's successor, too.
So each SuperNode writes down its lease, and the next one gives the node back first where its holder was a process of
this machine, since its last boot, that is gone. A copy of the files finds no such lease: it is on another machine, or
its holder is alive.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from fl_core.files import read_json, write_json
from fl_core.process.processes import birth_of

logger = logging.getLogger(__name__)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class _Holder:
    node_id: int
    boot_id: str
    pid: int
    birth: int | None

    def is_gone(self) -> bool:
        return self.boot_id == _boot_id() and birth_of(self.pid) != self.birth


class NodeLease:
    """The lease as a file; where it cannot be read or written, nothing is given back."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def left_behind(self) -> int | None:
        """The node id of a SuperNode of this board that was killed; None where it is alive, or nobody knows."""
        with suppress(OSError, ValueError, TypeError):
            holder = _Holder(**(read_json(self._path) or {}))
            return holder.node_id if holder.is_gone() else None
        return None

    def take(self, node_id: int) -> None:
        """Write down that this process is the SuperNode with the id ``node_id`` from now on."""
        try:
            write_json(self._path, asdict(_Holder(node_id, _boot_id(), os.getpid(), birth_of(os.getpid()))))
        except OSError as error:
            logger.warning("%s: cannot be written (%s); a successor may have to wait for a minute", self._path, error)


def _boot_id() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip()
