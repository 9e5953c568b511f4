"""Keeps the processes of a server or a board up: starts them, starts again what dies, ends all that they left behind.

Each part leads a session of its own, so Ctrl-C at a terminal reaches the supervisor alone, which then stops the parts
in reverse order. When a part dies, what it started is ended before it starts again, wherever that is by now: a worker
of nginx would hold the port, Flower's SuperExec leads a session of its own. A supervisor that is killed takes its parts
with it, for the kernel tells them; the next one ends the rest. Nothing here gives up: a board may be without a network
for days, and the waits between two starts grow to ``longest_wait_s`` and no further, or less where the reason says so.
"""

from __future__ import annotations

import ctypes
import json
import logging
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fl_core.files import write_json
from fl_core.process.bounded_log import BoundedLog
from fl_core.process.processes import HOME_VARIABLE, PART_VARIABLE, ask_to_end, birth_of, end, has_child, processes_of

logger = logging.getLogger(__name__)

STEADY_S = 60.0
"""A part that ran so long waits ``first_wait_s`` again when it dies."""
TABLE = "processes.json"
"""In the supervisor's folder: which processes it started; gone when it was stopped."""
SUPERVISOR = "supervisor"
"""Its own name in the table."""
_PR_SET_PDEATHSIG = 1  # of prctl(2)
_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True)
class End:
    """Why a process ended, and how long the wait before its next start may grow."""

    words: str
    longest_wait_s: float = math.inf
    perhaps_clock: bool = False
    """A wrong clock of this machine looks the same."""


@dataclass(frozen=True)
class ProcessSpec:
    """One process to keep up. ``command`` is asked anew before each start."""

    name: str
    command: Callable[[], Sequence[str]]
    explain: Callable[[str], End | None] = lambda tail: None
    """Says in plain words what the end of its log means; None where it knows nothing better."""
    may_start: Callable[[], bool] = lambda: True
    """Whether what it needs is there."""
    ready: Callable[[], bool] = lambda: True
    """Whether it does its work; asked for while it starts."""
    ready_s: float = 60.0
    """How long it may take to become ready; then it is started anew."""
    stop_s: float = 10.0
    """How long it may take to end when it is asked to; then it is killed."""
    helper: str = ""
    """A program that it starts once and cannot work without: when that is gone, the part is started anew."""


@dataclass
class _State:
    part: ProcessSpec
    log: BoundedLog
    wait_s: float
    process: subprocess.Popen[bytes] | None = None
    began: float = 0.0
    is_ready: bool = False
    has_helper: bool = False
    """Whether its helper has been seen; in some set-ups it is nobody's child."""
    restarts: int = 0
    not_before: float = 0.0
    said: str = ""


@dataclass
class Supervisor:
    """Runs ``parts`` for the home ``home``; call ``step`` again and again, and ``stop`` at the end.

    Args:
        home: whose processes they are; each carries it in its environment.
        folder: where each part writes ``<name>.log``, of bounded size, and where the table of processes is.
        parts: in the order in which they start.
        environment: of all parts.
        first_wait_s, longest_wait_s: back-off between two starts of one part; it doubles.
    """

    home: Path
    folder: Path
    parts: Iterable[ProcessSpec]
    environment: Mapping[str, str]
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    _states: list[_State] = field(init=False)

    def __post_init__(self) -> None:
        self._states = [
            _State(part, BoundedLog(self.folder / f"{part.name}.log"), self.first_wait_s) for part in self.parts
        ]
        self.folder.mkdir(parents=True, exist_ok=True)

    def end_leftovers(self) -> int:
        """End what an earlier supervisor of this home left behind; gives the number of processes."""
        names = {state.part.name for state in self._states}
        left = [found.pid for found in processes_of(self.home, leaders_of(self.folder)) if found.part in names]
        end(left)
        (self.folder / TABLE).unlink(missing_ok=True)
        return len(left)

    def step(self) -> None:
        """Notice what died, start what is due; returns at once, unless a part that is not well has to end first."""
        now = time.monotonic()
        changed = False
        for state in self._states:
            state.log.bound()
            if state.process is not None:
                changed |= self._notice(state, state.process, now)
        for state in self._states:
            if state.process is None and now >= state.not_before and state.part.may_start():
                changed |= self._start(state, now)
        if changed:
            self._write_table()

    @property
    def ready(self) -> bool:
        """Whether every part does its work."""
        return all(state.is_ready for state in self._states)

    def describe(self) -> dict[str, dict[str, object]]:
        """Each part: its process, whether it is ready, how often it was started again, what was said of its end."""
        return {
            state.part.name: {
                "pid": state.process.pid if state.process else None,
                "ready": state.is_ready,
                "restarts": state.restarts,
                "said": state.said,
            }
            for state in self._states
        }

    def restart(self, name: str) -> None:
        """Stop one part now; the next ``step`` starts it, with whatever files it reads by then.

        Raises:
            KeyError: there is no part of that name.
        """
        state = {state.part.name: state for state in self._states}[name]
        self._stop([state])
        state.not_before = 0.0

    def stop(self) -> None:
        """End all parts with everything that they started, the last one first."""
        self._stop(list(reversed(self._states)))
        (self.folder / TABLE).unlink(missing_ok=True)

    def _start(self, state: _State, now: float) -> bool:
        own = {HOME_VARIABLE: str(self.home.resolve()), PART_VARIABLE: state.part.name}
        try:
            command = list(state.part.command())
            with state.log.open() as log:
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
        state.began, state.is_ready, state.has_helper = now, False, False
        return True

    def _notice(self, state: _State, process: subprocess.Popen[bytes], now: float) -> bool:
        """Look after a part that was started; says whether it is gone."""
        code = process.poll()
        why = self._not_well(state, process.pid, now) if code is None else self._why(state, code)
        if why is None:
            return False
        if code is None:
            self._stop([state])  # politely: a server that is told lets a device in again at once
        else:
            self._end_rest(state, process)
        if now - state.began > STEADY_S:
            state.wait_s = self.first_wait_s
        state.restarts += 1
        self._again_later(state, now, why)
        return True

    def _not_well(self, state: _State, pid: int, now: float) -> End | None:
        """Why a part that runs must not go on as it is; None where it is well."""
        part = state.part
        state.is_ready = state.is_ready or part.ready()
        if not state.is_ready and now - state.began > part.ready_s:
            return End(f"was not ready after {part.ready_s:g} s")
        if part.helper:
            has = has_child(pid, part.helper)
            if state.has_helper and not has:
                return End(f"lost its {part.helper}")
            state.has_helper = has
        return None

    def _why(self, state: _State, code: int) -> End:
        """Why a part ended."""
        if code < 0:
            return End(f"was ended by {signal.Signals(-code).name}")
        return state.part.explain(state.log.tail()) or End(f"ended with {code}")

    def _again_later(self, state: _State, now: float, why: End) -> None:
        wait_s = min(state.wait_s, why.longest_wait_s, self.longest_wait_s)
        state.not_before = now + wait_s
        if why.words != state.said:  # days without a network are one line, not thousands
            logger.warning(
                "%s: %s; it starts again in %g s, and so on until it runs", state.part.name, why.words, wait_s
            )
            state.said = why.words
        state.wait_s = min(2 * wait_s, self.longest_wait_s)

    def _stop(self, states: Sequence[_State]) -> None:
        """One after the other: a SuperNode says goodbye through a forwarder that is still there."""
        for state in states:
            if state.process is not None:
                ask_to_end(self._family(state, state.process))
                with suppress(subprocess.TimeoutExpired):
                    state.process.wait(state.part.stop_s)
                self._end_rest(state, state.process)

    def _end_rest(self, state: _State, process: subprocess.Popen[bytes]) -> None:
        """End a part's own process if it still runs, and whatever it left behind."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        end(self._family(state, process))
        state.process, state.is_ready = None, False

    def _family(self, state: _State, process: subprocess.Popen[bytes]) -> list[int]:
        leaders = {process.pid: state.part.name}
        return [found.pid for found in processes_of(self.home, leaders) if found.part == state.part.name]

    def _write_table(self) -> None:
        own = {SUPERVISOR: {"pid": os.getpid(), "ready": True, "restarts": 0, "said": ""}}
        entries = own | self.describe()
        for entry in entries.values():
            entry["born"] = birth_of(int(str(entry["pid"]))) if entry["pid"] else None
        with suppress(OSError):  # a full disk stops no process
            write_json(self.folder / TABLE, entries)


def parts_running(folder: Path) -> dict[int, str]:
    """The processes that the supervisor with that folder wrote down, itself too, with the names of their parts."""
    return {pid: name for pid, (name, _) in _table(folder).items()}


def health_by_part(folder: Path) -> dict[str, tuple[bool, int]]:
    """By part of the supervisor with that folder, whether it runs now and how often it was started again."""
    return {
        name: (entry["pid"] is not None and birth_of(int(entry["pid"])) == entry["born"], int(entry["restarts"]))
        for name, entry in _read_table(folder).items()
        if name != SUPERVISOR
    }


def leaders_of(folder: Path) -> dict[int, str]:
    """Of these, the parts whose numbers have not been given to other processes since."""
    return {
        pid: name
        for pid, (name, born) in _table(folder).items()
        if name != SUPERVISOR and birth_of(pid) in (born, None)
    }


def _table(folder: Path) -> dict[int, tuple[str, int | None]]:
    return {int(entry["pid"]): (name, entry["born"]) for name, entry in _read_table(folder).items() if entry["pid"]}


def _read_table(folder: Path) -> dict[str, dict[str, Any]]:
    """What the supervisor wrote; nothing where there is no whole table."""
    try:
        table = json.loads((folder / TABLE).read_text(encoding="utf-8"))
        return {name: entry for name, entry in table.items() if {"pid", "born", "restarts"} <= entry.keys()}
    except (OSError, ValueError, AttributeError):
        return {}


def _die_with_parent() -> None:
    """In the child: SIGTERM when the supervisor ends, however it ends; prctl(2)."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
