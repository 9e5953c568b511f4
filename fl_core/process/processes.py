"""The processes of one home, a server's or a board's: which belong to it, how they are ended, what memory they hold.

Every process that a supervisor starts carries its home in its environment, and hands it on to its own children; so
they are found even when their parent is gone or they lead a session of their own. nginx writes over its environment,
and a SuperExec shows its own to nobody but root: such processes are found by their process group or their parents.

Memory is summed PSS, the proportional set size of proc_pid_smaps(5): shared pages count once over all who share them,
so the sum says what the machine would gain if all of them ended. Of a process that does not show it, the RSS counts.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HOME_VARIABLE = "STONECROP_PROCESSES_OF"
"""In the environment of each process of a home: its folder."""
SPEC_VARIABLE = "STONECROP_PART"
"""In the environment of each process of a home: the name of the ``ProcessSpec`` that it was started for."""
_PROC = Path("/proc")
_GONE_S = 5.0
"""How long the kernel may take to end what was killed."""


@dataclass(frozen=True)
class RunningProcess:
    """A running process of a home."""

    pid: int
    spec_name: str
    """Name of the ``ProcessSpec``, or of the unit of systemd, that it was started for; empty where nobody knows."""
    name: str
    """Its program's own words."""


def processes_of(home: Path, leaders: Mapping[int, str] | None = None) -> list[RunningProcess]:
    """All processes of the home ``home``, ``leaders`` of process groups and the members of these among them.

    ``leaders`` names the spec of each process that a supervisor started. The process that asks is left out.
    """
    wanted, known = str(home.resolve()), leaders or {}
    spec_of: dict[int, str] = {}
    hidden = []
    for pid in _pids():
        if pid == os.getpid():
            continue
        with suppress(OSError):
            variables = environment_of(pid)
            if variables.get(HOME_VARIABLE) == wanted:
                spec_of[pid] = variables.get(SPEC_VARIABLE, "")
            elif pid in known and is_alive(pid):
                spec_of[pid] = known[pid]
            elif not variables and is_alive(pid):
                hidden.append(pid)
    seen = {**known, **spec_of}
    for pid in hidden:
        with suppress(OSError):
            spec_name = next((seen[each] for each in (os.getpgid(pid), *_parents_of(pid)) if each in seen), None)
            if spec_name is not None:
                spec_of[pid] = spec_name
    found = []
    for pid, spec_name in spec_of.items():
        with suppress(OSError):
            found.append(RunningProcess(pid, spec_name, name_of(pid)))
    return found


def end(pids: Iterable[int]) -> None:
    """Kill processes, and wait until the kernel has ended them."""
    wait_for_end([pid for pid in pids if _send(pid, signal.SIGKILL)], _GONE_S)


def ask_to_end(pids: Iterable[int]) -> None:
    """Send SIGTERM to processes."""
    for pid in pids:
        _send(pid, signal.SIGTERM)


def wait_for_end(pids: Iterable[int], limit_s: float) -> None:
    """Wait until the processes have ended, for at most ``limit_s``."""
    left, ends = list(pids), time.monotonic() + limit_s
    while any(map(is_alive, left)) and time.monotonic() < ends:
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    return _stat(pid)[:1] not in ([], ["Z"], ["X"])


def has_child(pid: int, program: str) -> bool:
    """Whether a process has a running child of that program."""
    for listed in (_PROC / str(pid) / "task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, listed.read_text().split()):
                words = (_PROC / str(child) / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if is_alive(child) and any(Path(word).name == program for word in words[:3]):
                    return True
    return False


def birth_of(pid: int) -> int | None:
    """When a process was started, in ticks since the machine was; None where there is none of that number."""
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def pss_bytes(pids: Iterable[int]) -> int:
    """Summed PSS of processes, or the RSS of one that does not show it; one that has ended counts nothing."""
    return sum(map(_pss_bytes, pids))


def _pss_bytes(pid: int) -> int:
    with suppress(OSError):
        try:
            lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
        except PermissionError:
            return int((_PROC / str(pid) / "statm").read_text().split()[1]) * resource.getpagesize()
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))  # given in kB
    return 0


def _send(pid: int, number: int) -> bool:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
        return True
    return False


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())


def environment_of(pid: int) -> dict[str, str]:
    """The environment that a process was started with; nothing where it shows none."""
    try:
        raw = (_PROC / str(pid) / "environ").read_bytes().decode(errors="replace")
    except PermissionError:
        return {}
    return dict(text.split("=", 1) for text in raw.split("\0") if "=" in text)


def _parents_of(pid: int) -> Iterator[int]:
    """The parent of a process, its parent, and so on."""
    while len(fields := _stat(pid)) > 1 and (pid := int(fields[1])) > 1:
        yield pid


def _stat(pid: int) -> list[str]:
    """The fields of proc_pid_stat(5) from the third on; the second, the name, may hold anything."""
    with suppress(OSError):
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    return []


def name_of(pid: int) -> str:
    """The program's own words, of which the first two say enough."""
    words = (_PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    return " ".join(Path(word).name if number == 0 else word for number, word in enumerate(words[:2])).strip()
