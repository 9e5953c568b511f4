"""The table of a supervisor: which processes it started, in a file that others read and a killed one leaves behind.

A number of a process is given to another one sooner or later, so each stands there with the time of its birth.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fl_core.files import read_json, write_json
from fl_core.process.processes import birth_of

TABLE = "processes.json"
"""In the supervisor's folder; gone when it was stopped."""
SUPERVISOR = "supervisor"
"""The supervisor's own name in the table."""


def write_table(folder: Path, described: Mapping[str, Mapping[str, object]]) -> None:
    """Write down this process as the supervisor, and ``described``: by name each process' pid (or None) and figures.

    Raises:
        OSError: it cannot be written.
    """
    own = {"pid": os.getpid(), "ready": True, "restarts": 0, "said": ""}
    write_json(folder / TABLE, {name: _with_birth(entry) for name, entry in {SUPERVISOR: own, **described}.items()})


def remove_table(folder: Path) -> None:
    """Say that nothing runs any more."""
    (folder / TABLE).unlink(missing_ok=True)


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
    """What the supervisor wrote; nothing where there is no whole table."""
    try:
        table = read_json(folder / TABLE) or {}
        return {name: entry for name, entry in table.items() if {"pid", "born", "restarts"} <= entry.keys()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
