"""The table of a supervisor: which processes it started, in a file that others read and a killed one leaves behind.

A number of a process is given to another one sooner or later, so each stands there with the time of its birth. The
table holds in the place where it was written; one that was copied with its folder, or is older than the machine's last
boot, says nothing. Beside it stands why the processes ended for good, until they are started again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fl_core.files import read_json, write_json
from fl_core.process.place import Place
from fl_core.process.processes import birth_of

TABLE = "processes.json"
"""In the supervisor's folder; gone when it was stopped."""
ENDED = "ended.json"
"""In the supervisor's folder; there while nothing runs, for a reason that starting again does not mend."""
_FIELDS = {"pid", "born", "restarts", "said"}
SUPERVISOR = "supervisor"
"""The supervisor's own name in the table."""


def write_table(folder: Path, described: Mapping[str, Mapping[str, object]]) -> None:
    """Write down this process as the supervisor, and ``described``: by name each process' pid (or None) and figures.

    Raises:
        OSError: it cannot be written.
    """
    own = {"pid": os.getpid(), "ready": True, "restarts": 0, "said": ""}
    processes = {name: _with_birth(entry) for name, entry in {SUPERVISOR: own, **described}.items()}
    write_json(folder / TABLE, {"place": asdict(Place.of(folder)), "processes": processes})


def remove_table(folder: Path) -> None:
    """Say that nothing runs any more."""
    (folder / TABLE).unlink(missing_ok=True)


def write_end(folder: Path, reason: str, exit_code: int) -> None:
    """Write down why the processes ended for good, where there is a home for it and the disk allows it."""
    with suppress(OSError):
        folder.mkdir(exist_ok=True)
        write_json(folder / ENDED, {"reason": reason, "exit_code": exit_code, "time": time.time()})


def remove_end(folder: Path) -> None:
    """Say that the processes are started again."""
    with suppress(OSError):
        (folder / ENDED).unlink(missing_ok=True)


def end_of(folder: Path) -> dict[str, Any] | None:
    """{reason, exit_code, time}: why the processes ended for good; None where they did not."""
    with suppress(OSError, ValueError, TypeError):
        found = read_json(folder / ENDED)
        return found if found and {"reason", "exit_code", "time"} <= found.keys() else None
    return None


def running_processes(folder: Path) -> dict[int, str]:
    """Names of the processes that the supervisor with that folder wrote down, itself among them, by process id."""
    return {pid: name for pid, (name, _) in _by_pid(folder).items()}


def health_by_process(folder: Path) -> dict[str, tuple[bool, int]]:
    """By name, whether a process of the supervisor with that folder runs now and how often it was started again."""
    return {
        name: (entry["pid"] is not None and birth_of(int(entry["pid"])) == entry["born"], int(entry["restarts"]))
        for name, entry in _read(folder).items()
        if name != SUPERVISOR
    }


def troubles(folder: Path) -> dict[str, str]:
    """By name, why a process of the supervisor with that folder ended, of those that do not run now."""
    health = health_by_process(folder)
    return {name: str(entry["said"]) for name, entry in _read(folder).items() if not health.get(name, (True, 0))[0]}


def leaders_of(folder: Path) -> dict[int, str]:
    """Names of the supervised processes, by process ids that have not been given to others since."""
    return {
        pid: name
        for pid, (name, born) in _by_pid(folder).items()
        if name != SUPERVISOR and birth_of(pid) in (born, None)
    }


def _with_birth(entry: Mapping[str, object]) -> dict[str, object]:
    return {**entry, "born": birth_of(int(str(entry["pid"]))) if entry["pid"] else None}


def _by_pid(folder: Path) -> dict[int, tuple[str, int | None]]:
    return {int(entry["pid"]): (name, entry["born"]) for name, entry in _read(folder).items() if entry["pid"]}


def _read(folder: Path) -> dict[str, dict[str, Any]]:
    """What the supervisor of this very folder wrote since the last boot; nothing where there is no whole table."""
    try:
        table = read_json(folder / TABLE) or {}
        if table["place"] != asdict(Place.of(folder)):
            return {}
        return {name: entry for name, entry in table["processes"].items() if entry.keys() >= _FIELDS}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
