"""Keeps the processes of a board up: starts them, starts again what dies, ends all of them and what they left behind.

Each part leads a process group of its own, so Ctrl-C at a terminal reaches the supervisor alone. When a part dies,
its orphans (Flower's SuperExec outlives a killed SuperNode) are ended before it starts again. A supervisor that is
killed takes its parts with it, for the kernel tells them. Nothing here gives up: a board may be without a network for
days, and the waits between two starts grow to ``LONGEST_WAIT_S`` and no further, or less where the reason says so.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fl_client.device.processes import HOME_VARIABLE, PART_VARIABLE, processes_of
from fl_client.resident.explain import End
from fl_core.runlog import write_json

logger = logging.getLogger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
STEADY_S = 60.0
"""A part that ran so long waits ``FIRST_WAIT_S`` again when it dies."""
STOP_S = 35.0
"""How long a part may take to end when it is asked to: the trainer lets a running task finish."""
LOG_LIMIT_BYTES = 1_000_000
TABLE = "processes.json"
"""In the board's run folder: which processes its supervisor started; gone when it was stopped."""
_TAIL_BYTES = 8000
_PR_SET_PDEATHSIG = 1  # of prctl(2)

Explain = Callable[[str], "End | None"]


@dataclass(frozen=True)
class Part:
    """One process to keep up. ``command`` is asked anew before each start."""

    name: str
    command: Callable[[], Sequence[str]]
    explain: Explain = lambda tail: None
    """Says in plain words what the end of its log means; None where it knows nothing better."""
    ready: Callable[[], bool] = lambda: True
    """Whether it may start yet."""


@dataclass
class _State:
    part: Part
    process: subprocess.Popen[bytes] | None = None
    began: float = 0.0
    log_from_bytes: int = 0
    restarts: int = 0
    wait_s: float = FIRST_WAIT_S
    not_before: float = 0.0
    said: str = ""


@dataclass
class Supervisor:
    """Runs ``parts`` for the board at ``home``; call ``step`` again and again, and ``stop`` at the end."""

    home: Path
    parts: Iterable[Part]
    environment: Mapping[str, str]
    _states: list[_State] = field(init=False)

    def __post_init__(self) -> None:
        self._states = [_State(part) for part in self.parts]
        self._folder.mkdir(parents=True, exist_ok=True)

    @property
    def _folder(self) -> Path:
        return self.home / "run"

    def end_leftovers(self) -> int:
        """End what an earlier supervisor of this board left behind; gives the number of processes."""
        names = {state.part.name for state in self._states}
        left = [found.pid for found in processes_of(self.home) if found.part in names]
        _end(left)
        return len(left)

    def step(self) -> None:
        """Notice what died, start what is due; returns at once."""
        now = time.monotonic()
        changed = False
        for state in self._states:
            if state.process is not None and state.process.poll() is not None:
                self._notice(state, now)
                changed = True
            if state.process is None and now >= state.not_before and state.part.ready():
                changed |= self._start(state, now)
        if changed:
            self._write_table()

    def describe(self) -> dict[str, dict[str, object]]:
        """Each part: its process, how often it was started again, and what was said of its last end."""
        return {
            state.part.name: {
                "pid": state.process.pid if state.process else None,
                "restarts": state.restarts,
                "said": state.said,
            }
            for state in self._states
        }

    def stop(self) -> None:
        """End all parts with everything that they started, the last one first."""
        for state in reversed(self._states):
            if state.process is not None:
                with suppress(ProcessLookupError):
                    os.kill(state.process.pid, signal.SIGTERM)
        ends = time.monotonic() + STOP_S
        for state in reversed(self._states):
            if state.process is not None:
                with suppress(subprocess.TimeoutExpired):
                    state.process.wait(max(0.1, ends - time.monotonic()))
                self._end_rest(state)
        (self._folder / TABLE).unlink(missing_ok=True)

    def log_of(self, part: str) -> Path:
        """Where a part's output goes."""
        return self._folder / f"{part}.log"

    def _start(self, state: _State, now: float) -> bool:
        path = self.log_of(state.part.name)
        if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
            os.replace(path, path.with_suffix(".log.1"))
        own = {HOME_VARIABLE: str(self.home.resolve()), PART_VARIABLE: state.part.name}
        try:
            command = list(state.part.command())
            with path.open("ab") as log:
                state.log_from_bytes = log.tell()
                state.process = subprocess.Popen(
                    command,
                    env={**self.environment, **own},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=_die_with_parent,
                )
        except OSError as error:
            self._again_later(state, now, End(f"cannot start ({error})"))
            return False
        state.began = now
        return True

    def _notice(self, state: _State, now: float) -> None:
        assert state.process is not None
        code = state.process.returncode
        self._end_rest(state)
        if now - state.began > STEADY_S:
            state.wait_s = FIRST_WAIT_S
        end = End(f"was ended by {signal.Signals(-code).name}") if code < 0 else None
        end = end or state.part.explain(_tail(self.log_of(state.part.name), state.log_from_bytes))
        state.restarts += 1
        self._again_later(state, now, end or End(f"ended with {code}"))

    def _again_later(self, state: _State, now: float, end: End) -> None:
        wait_s = min(state.wait_s, end.longest_wait_s, LONGEST_WAIT_S)
        state.not_before = now + wait_s
        if end.words != state.said:  # days without a network are one line, not thousands
            logger.warning(
                "%s: %s; it starts again in %g s, and so on until it runs", state.part.name, end.words, wait_s
            )
            state.said = end.words
        state.wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _end_rest(self, state: _State) -> None:
        """End a part's own process if it still runs, and whatever it left behind."""
        assert state.process is not None
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(state.process.pid, signal.SIGKILL)
        state.process.wait()
        _end([found.pid for found in processes_of(self.home) if found.part == state.part.name])
        state.process = None

    def _write_table(self) -> None:
        own = {"supervisor": {"pid": os.getpid(), "restarts": 0, "said": ""}}
        with suppress(OSError):  # a full disk stops no process
            write_json(self._folder / TABLE, own | self.describe())


def parts_running(home: Path) -> dict[int, str]:
    """The processes that the supervisor of a board wrote down, itself too, with the names of their parts."""
    try:
        table = json.loads((home / "run" / TABLE).read_text(encoding="utf-8"))
        return {int(entry["pid"]): name for name, entry in table.items() if entry["pid"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _end(pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _tail(path: Path, from_bytes: int) -> str:
    """The last words of a log, of its latest process alone."""
    with suppress(OSError), path.open("rb") as file:
        file.seek(max(from_bytes, path.stat().st_size - _TAIL_BYTES))
        return file.read().decode(errors="replace")
    return ""


def _die_with_parent() -> None:
    """In the child: SIGTERM when the supervisor ends, however it ends; prctl(2)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
