"""What systemd says of a board's services: their state, how often they were started again, and their processes.

A board that runs as services has no supervisor of ours above its processes, and they belong to three users; systemd
knows them by their control groups. Where there is no systemd, or it does not answer, there is nothing to say.
"""

from __future__ import annotations

import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fl_client.board.services import UNITS
from fl_core.process.processes import RunningProcess, name_of

CGROUPS = Path("/sys/fs/cgroup")
_HIERARCHIES = (".", "systemd")
"""Where systemd's control groups are: at the root, or beside those of version 1."""
_ASK = ("Id", "LoadState", "ActiveState", "SubState", "NRestarts", "ControlGroup")
_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Unit:
    """One installed service."""

    name: str
    state: str
    """In systemd's words: "active (running)"."""
    restarts: int
    control_group: str
    """Its control group, relative to the root of the control groups; empty while nothing of it runs."""


def installed_units() -> list[Unit]:
    """The services of this board that systemd knows; none where there is no systemd or it cannot be asked."""
    command = ["systemctl", "show", "--no-pager", f"--property={','.join(_ASK)}", *UNITS]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [unit for block in said.split("\n\n") if (unit := _unit(block)) is not None]


def processes_of_unit(unit: Unit) -> list[RunningProcess]:
    """The processes of a service, those of its control group and of all below it; whoever they belong to."""
    found: list[RunningProcess] = []
    if not unit.control_group:
        return found
    groups = (CGROUPS / each / unit.control_group.lstrip("/") for each in _HIERARCHIES)
    group = next((path for path in groups if path.is_dir()), None)
    for listed in sorted(group.rglob("cgroup.procs") if group else ()):
        with suppress(OSError):
            for pid in map(int, listed.read_text().split()):
                with suppress(OSError):  # it has ended since
                    found.append(RunningProcess(pid, unit.name.removesuffix(".service"), name_of(pid)))
    return found


def _unit(block: str) -> Unit | None:
    """One paragraph of what ``systemctl show`` prints; None for a unit that is not installed."""
    fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
    if fields.get("LoadState") != "loaded":
        return None
    restarts = fields.get("NRestarts", "")
    state = f"{fields.get('ActiveState', 'unknown')} ({fields.get('SubState', 'unknown')})"
    return Unit(fields.get("Id", ""), state, int(restarts) if restarts.isdigit() else 0, fields.get("ControlGroup", ""))
