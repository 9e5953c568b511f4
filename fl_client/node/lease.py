"""The lease of the node that a board's SuperNode holds at the SuperLink, given back for a SuperNode that was killed.

A SuperLink counts a SuperNode as connected until its heartbeat runs out, for up to a minute, and meanwhile answers 412
to another one with its key. That keeps a second device with copied files out, and a killed SuperNode's successor, too.
So each SuperNode writes down its lease, and the next one gives the node back first where its holder was a process of
this folder, since the machine's last boot, that is gone. A copy of the files finds no such lease: it is another place.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from fl_core.files import read_json, write_json
from fl_core.process.place import Place
from fl_core.process.processes import birth_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Holder:
    node_id: int
    place: Place
    pid: int
    birth: int | None


class NodeLease:
    """The lease as a file; where it cannot be read or written, nothing is given back."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def left_behind(self) -> int | None:
        """The node id of a SuperNode of this board that was killed; None where it is alive, or nobody knows."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            said = read_json(self._path) or {}
            holder = _Holder(**{**said, "place": Place(**said["place"])})
            if holder.place == Place.of(self._path.parent) and birth_of(holder.pid) != holder.birth:
                return holder.node_id
        return None

    def take(self, node_id: int) -> None:
        """Write down that this process is the SuperNode with the id ``node_id`` from now on."""
        pid = os.getpid()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, asdict(_Holder(node_id, Place.of(self._path.parent), pid, birth_of(pid))))
        except OSError as error:
            logger.warning("%s: cannot be written (%s); a successor may have to wait for a minute", self._path, error)
