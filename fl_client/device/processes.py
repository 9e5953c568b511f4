"""The processes of a board: which belong to it, how they find each other, how much memory they hold together.

Every process that a board's supervisor starts carries the board's home in its environment, and hands it on to its own
children; so they are found even when their parent is gone. nginx writes over its environment: its processes are
found by their process group.

Memory is summed PSS, the proportional set size of proc_pid_smaps(5): shared pages count once over all who share them,
so the sum says what the board would gain if all of them ended.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HOME_VARIABLE = "STONECROP_BOARD"
"""In the environment of each process of a board: its home folder."""
PART_VARIABLE = "STONECROP_PART"
"""In the same place: which part of the board the process belongs to."""
SOCKET_KEY = "trainer-socket"
"""In the node's config of Flower, which a board alone decides: where its shells find the trainer's socket."""
_PROC = Path("/proc")
_REWRITING = ("forwarder",)
"""Parts whose processes write over their environment; a supervisor's own group may hold strangers."""


@dataclass(frozen=True)
class Found:
    """A running process of a board."""

    pid: int
    part: str
    name: str


def processes_of(home: Path, parts: Mapping[int, str] | None = None) -> list[Found]:
    """All processes of the board with that home, those in ``parts`` and in the process groups that they lead.

    ``parts`` names the part of each known process. The process that asks is left out.
    """
    wanted, known = str(home.resolve()), parts or {}
    found = []
    for pid in _pids():
        if pid == os.getpid():
            continue
        with suppress(OSError):
            variables = _environment(pid)
            if variables.get(HOME_VARIABLE) == wanted:
                found.append(Found(pid, variables.get(PART_VARIABLE, ""), _name(pid)))
            elif pid in known:
                found.append(Found(pid, known[pid], _name(pid)))
            elif (leader := os.getpgid(pid)) in known and known[leader] in _REWRITING:
                found.append(Found(pid, known[leader], _name(pid)))
    return found


def pss_bytes(pids: Iterable[int]) -> int:
    """Summed PSS of processes; one that has ended or belongs to another user counts nothing."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024  # given in kB
    return total


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())


def _environment(pid: int) -> dict[str, str]:
    raw = (_PROC / str(pid) / "environ").read_bytes().decode(errors="replace")
    return dict(text.split("=", 1) for text in raw.split("\0") if "=" in text)


def _name(pid: int) -> str:
    """The program's own words, of which the first two say enough."""
    words = (_PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    return " ".join(Path(word).name if number == 0 else word for number, word in enumerate(words[:2])).strip()
