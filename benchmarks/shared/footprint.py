"""Memory of a family of processes on this machine, as it would be on a machine of their own.

The kernel's PSS divides a file's pages among all processes that map them. Where a server and a benchmark run beside a
board and map the same libraries, the board looks up to 75 MB smaller than it is; so these pages are divided here among
the board's own processes alone. How pages are shared changes little and is read seldom, for that takes the kernel
0.2 s; how many a process has is read every ``EVERY_S``.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

PARTS = {
    "fl_client.cli": "supervisor",
    "fl_client.trainer": "trainer",
    "nginx": "forwarder",
    "fl_client.board.supernode": "SuperNode",
    "flower-supernode": "SuperNode",
    "flower-superexec": "SuperExec",
    "fl_client.board.superexec": "SuperExec",
}
"""Which part of a board a program, or a module, is."""
_APP = "flwr-clientapp"
"""The process of one message; one that was forked has this name and its parent's command line."""
EVERY_S = 0.05
_LOOK_S = 0.5
"""How often new processes and shared pages are looked for."""
_PAGE_BYTES = 4096


@dataclass(frozen=True)
class Sizes:
    """Bytes of one part, or of a whole board."""

    pss: float = 0.0
    rss: float = 0.0

    def __add__(self, other: Sizes) -> Sizes:
        return Sizes(self.pss + other.pss, self.rss + other.rss)


SizesByPart = Mapping[str, Sizes]
"""What each part takes at one moment."""


def total(board: SizesByPart) -> Sizes:
    """All parts together."""
    return sum(board.values(), Sizes())


class Recording:
    """Samples of ``root`` and all processes below it."""

    def __init__(self, root: psutil.Process) -> None:
        self._root = root
        self._parts: dict[int, str] = {}
        self._alone: dict[int, tuple[float, float]] = {}
        self.boards: list[SizesByPart] = []
        self.look()

    def look(self) -> None:
        """Find the processes, and how they share the pages of files among themselves."""
        parts: dict[int, str] = {}
        pages: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
        forked: dict[int, float] = {}
        with suppress(psutil.NoSuchProcess):
            for process in (self._root, *self._root.children(recursive=True)):
                with suppress(psutil.Error, OSError):
                    parts[process.pid] = part_of(process)
                    forked[process.pid] = _own_share(Path(f"/proc/{process.pid}/smaps_rollup").read_text())
                    for key, size in _pages_of_files(Path(f"/proc/{process.pid}/smaps").read_text()).items():
                        pages[key][process.pid] = size
        counted: dict[int, float] = defaultdict(float)
        whole: dict[int, float] = defaultdict(float)
        for sizes in pages.values():
            share = max(sizes.values()) / sum(sizes.values())  # the union of all is taken for the largest of them
            for pid, size in sizes.items():
                counted[pid] += size * share
                whole[pid] += size
        self._parts, self._alone = parts, {pid: (forked[pid], counted[pid] / whole[pid]) for pid in whole}

    def sample(self) -> None:
        """Keep what each part takes now; a process that has ended counts nothing."""
        board: dict[str, Sizes] = defaultdict(Sizes)
        for pid, part in self._parts.items():
            with suppress(OSError):
                words = Path(f"/proc/{pid}/statm").read_text().split()
                resident, of_files = int(words[1]) * _PAGE_BYTES, int(words[2]) * _PAGE_BYTES
                own, alone = self._alone.get(pid, (1.0, 1.0))
                board[part] += Sizes((resident - of_files) * own + of_files * alone, resident)
        self.boards.append(board)

    def peak(self) -> SizesByPart:
        """The sample with the most memory of all parts together."""
        return max(self.boards, key=lambda board: total(board).pss)


def part_of(process: psutil.Process) -> str:
    """The part of a board that a process is."""
    command = " ".join(process.cmdline()[:4])
    if process.name() == _APP or _APP in command:
        return "app"
    words = [Path(word).name.rstrip(":") for word in command.split()]
    return next((PARTS[word] for word in words if word in PARTS), "other")


@contextmanager
def recorded(root: psutil.Process) -> Iterator[Recording]:
    """Sample a family of processes while the body runs."""
    recording, done = Recording(root), threading.Event()
    recording.sample()

    def go_on() -> None:
        looked = time.monotonic()
        while not done.wait(EVERY_S):
            if time.monotonic() - looked > _LOOK_S:
                recording.look()
                looked = time.monotonic()
            recording.sample()

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield recording
    finally:
        done.set()
        thread.join()


def at_rest(root: psutil.Process, seconds: float = 2.0) -> SizesByPart:
    """What a family takes while nothing is asked of it, after ``seconds`` for what was asked before to end."""
    time.sleep(seconds)
    recording = Recording(root)
    recording.sample()
    return recording.boards[0]


def _pages_of_files(smaps: str) -> dict[tuple[str, str], float]:
    """Bytes of the resident pages that belong to files, by inode and offset: those that a process did not change."""
    found: dict[tuple[str, str], float] = defaultdict(float)
    key: tuple[str, str] | None = None
    for line in smaps.splitlines():
        word, _, rest = line.partition(" ")
        if not word.endswith(":"):
            _, offset, _, inode, *_ = rest.split(maxsplit=4)
            key = None if inode == "0" else (inode, offset)
        elif key and word == "Rss:":
            found[key] += _bytes(rest)
        elif key and word == "Anonymous:":
            found[key] -= _bytes(rest)
    return {key: size for key, size in found.items() if size > 0}


def _own_share(rollup: str) -> float:
    """The share of a process's private pages that count as its own: those from before a fork are its parent's too."""
    sizes = {words[0]: _bytes(words[1]) for words in (line.split() for line in rollup.splitlines()[1:])}
    return sizes["Pss_Anon:"] / max(sizes["Anonymous:"], 1.0)


def _bytes(text: str) -> float:
    return int(text.split()[0]) * 1024.0
