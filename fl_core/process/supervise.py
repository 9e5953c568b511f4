"""Keeps the processes of a server or a board up: starts them, starts again what dies, ends all that they left behind.

Each process leads a session of its own, so Ctrl-C at a terminal reaches the supervisor alone, which then stops them in
reverse order. When one dies, what it started is ended before it starts again, wherever that is by now: a worker of
nginx would hold the port, Flower's SuperExec leads a session of its own. A supervisor that is killed takes its
processes with it, for the kernel tells them; the next one ends the rest, each with the time it has for that. What may
pass is never given up: a board may be without a network for days, and the waits between two starts grow to
``longest_wait_s`` and no further, or less where the reason says so. What no further start mends ends the supervisor.
"""

from __future__ import annotations

import ctypes
import logging
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from fl_core.errors import FINAL_CODES, StonecropError
from fl_core.process.bounded_log import BoundedLog
from fl_core.process.processes import (
    HOME_VARIABLE,
    SPEC_VARIABLE,
    ask_to_end,
    end,
    has_child,
    processes_of,
    wait_for_end,
)
from fl_core.process.table import leaders_of, remove_end, remove_table, write_end, write_table

logger = logging.getLogger(__name__)

STEADY_S = 60.0
"""A process that ran so long waits ``first_wait_s`` again when it dies."""
_PR_SET_PDEATHSIG = 1  # of prctl(2)
_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True)
class ExitReason:
    """Why a process ended, and how long the wait before its next start may grow."""

    words: str
    longest_wait_s: float = math.inf
    perhaps_clock: bool = False
    """A wrong clock of this machine looks the same."""
    exit_code: int | None = None
    """With this the supervisor ends, where no further start mends the reason; None where one may."""


class EndedForGoodError(StonecropError):
    """A process ended for a reason that no further start mends; the exit code is that reason's own."""

    def __init__(self, words: str, exit_code: int = StonecropError.exit_code) -> None:
        super().__init__(words)
        self.exit_code = exit_code


@dataclass(frozen=True)
class ProcessSpec:
    """One process to keep up. ``command`` is asked anew before each start."""

    name: str
    command: Callable[[], Sequence[str]]
    explain: Callable[[str], ExitReason | None] = lambda tail: None
    """Says in plain words what the end of its log means; None where it knows nothing better."""
    may_start: Callable[[], bool] = lambda: True
    """Whether what it needs is there."""
    ready: Callable[[], bool] = lambda: True
    """Whether it does its work; asked for while it starts."""
    ready_s: float = 60.0
    """How long it may take to become ready; then it is started anew."""
    stop_s: float = 10.0
    """How long it may take to end when it is asked to; then it is killed."""
    own_codes: bool = False
    """Whether its exit codes are those of the error tree."""
    helper: str = ""
    """A program that it starts once and cannot work without: when that is gone, the process is started anew."""


@dataclass
class _State:
    spec: ProcessSpec
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
    """Runs the processes ``specs`` for the home ``home``; call ``step`` again and again, and ``stop`` at the end.

    Args:
        home: whose processes they are; each carries it in its environment.
        folder: where each process writes ``<name>.log``, of bounded size, and where the table of processes is.
        specs: in the order in which they start.
        environment: of all processes.
        first_wait_s, longest_wait_s: back-off between two starts of one process; it doubles.
    """

    home: Path
    folder: Path
    specs: Iterable[ProcessSpec]
    environment: Mapping[str, str]
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    _states: list[_State] = field(init=False)

    def __post_init__(self) -> None:
        self._states = [
            _State(spec, BoundedLog(self.folder / f"{spec.name}.log"), self.first_wait_s) for spec in self.specs
        ]
        self.folder.mkdir(parents=True, exist_ok=True)

    def end_leftovers(self) -> int:
        """End what an earlier supervisor of this home left behind, as ``stop`` does; gives the number of processes."""
        stop_s = {state.spec.name: state.spec.stop_s for state in self._states}
        known = processes_of(self.home, leaders_of(self.folder))
        left = {found.pid: stop_s[found.spec_name] for found in known if found.spec_name in stop_s}
        if left:
            logger.info("ending what an earlier start left behind, which may take %g s", max(left.values()))
        ask_to_end(left)
        wait_for_end(left, max(left.values(), default=0.0))
        end(left)
        remove_table(self.folder)
        remove_end(self.folder)
        return len(left)

    def step(self) -> None:
        """Notice what died, start what is due. It waits for nothing but the end of a process that is not well.

        Raises:
            EndedForGoodError: a process ended for a reason that no further start mends; the caller stops the others.
        """
        now = time.monotonic()
        changed = False
        for state in self._states:
            state.log.bound()
            if state.process is not None:
                changed |= self._notice(state, state.process, now)
        for state in self._states:
            if state.process is None and now >= state.not_before and state.spec.may_start():
                changed |= self._start(state, now)
        if changed:
            with suppress(OSError):  # a full disk stops no process
                write_table(self.folder, self.describe())

    @property
    def ready(self) -> bool:
        """Whether every process does its work."""
        return all(state.is_ready for state in self._states)

    def describe(self) -> dict[str, dict[str, object]]:
        """By name: the process id, whether it is ready, how often it was started again, what was said of its end."""
        return {
            state.spec.name: {
                "pid": state.process.pid if state.process else None,
                "ready": state.is_ready,
                "restarts": state.restarts,
                "said": state.said,
            }
            for state in self._states
        }

    def restart(self, name: str) -> None:
        """Stop one process now; the next ``step`` starts it, with whatever files it reads by then.

        Raises:
            KeyError: there is no process of that name.
        """
        state = {state.spec.name: state for state in self._states}[name]
        self._stop([state])
        state.not_before = 0.0

    def stop(self) -> None:
        """End all processes with everything that they started, the last one first."""
        self._stop(list(reversed(self._states)))
        remove_table(self.folder)

    def _start(self, state: _State, now: float) -> bool:
        own = {HOME_VARIABLE: str(self.home.resolve()), SPEC_VARIABLE: state.spec.name}
        try:
            command = list(state.spec.command())
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
            self._again_later(state, now, ExitReason(f"cannot start ({error})"))
            return False
        state.began, state.is_ready, state.has_helper = now, False, False
        return True

    def _notice(self, state: _State, process: subprocess.Popen[bytes], now: float) -> bool:
        """Look after a process that was started; says whether it is gone."""
        code = process.poll()
        why = self._not_well(state, process.pid, now) if code is None else self._why(state, code)
        if why is None:
            return False
        if code is None:
            self._stop([state])  # politely: a server that is told lets a device in again at once
        else:
            self._end_rest(state, process)
        if why.exit_code is not None:
            words = f"{state.spec.name}: {why.words}"
            write_end(self.folder, words, why.exit_code)
            raise EndedForGoodError(words, why.exit_code)
        if now - state.began > STEADY_S:
            state.wait_s = self.first_wait_s
        state.restarts += 1
        self._again_later(state, now, why)
        return True

    def _not_well(self, state: _State, pid: int, now: float) -> ExitReason | None:
        """Why a process that runs must not go on as it is; None where it is well."""
        spec = state.spec
        state.is_ready = state.is_ready or spec.ready()
        if not state.is_ready and now - state.began > spec.ready_s:
            return ExitReason(f"was not ready after {spec.ready_s:g} s")
        if spec.helper:
            has = has_child(pid, spec.helper)
            if state.has_helper and not has:
                return ExitReason(f"lost its {spec.helper}")
            state.has_helper = has
        return None

    def _why(self, state: _State, code: int) -> ExitReason:
        """Why a process ended."""
        if code < 0:
            return ExitReason(f"was ended by {signal.Signals(-code).name}")
        tail = state.log.tail()
        why = state.spec.explain(tail) or ExitReason(f"ended with {code}{_last_line(tail)}")
        return replace(why, exit_code=code) if state.spec.own_codes and code in FINAL_CODES else why

    def _again_later(self, state: _State, now: float, why: ExitReason) -> None:
        wait_s = min(state.wait_s, why.longest_wait_s, self.longest_wait_s)
        state.not_before = now + wait_s
        if why.words != state.said:  # days without a network are one line, not thousands
            logger.warning(
                "%s: %s; it starts again in %g s, and so on until it runs", state.spec.name, why.words, wait_s
            )
            state.said = why.words
        state.wait_s = min(2 * wait_s, self.longest_wait_s)

    def _stop(self, states: Sequence[_State]) -> None:
        """Stop processes one after the other: a SuperNode says goodbye through a forwarder that is still there."""
        for state in states:
            if state.process is not None:
                ask_to_end(self._family(state, state.process))
                with suppress(subprocess.TimeoutExpired):
                    state.process.wait(state.spec.stop_s)
                self._end_rest(state, state.process)

    def _end_rest(self, state: _State, process: subprocess.Popen[bytes]) -> None:
        """End the process itself if it still runs, and whatever it left behind."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        end(self._family(state, process))
        state.process, state.is_ready = None, False

    def _family(self, state: _State, process: subprocess.Popen[bytes]) -> list[int]:
        leaders = {process.pid: state.spec.name}
        return [found.pid for found in processes_of(self.home, leaders) if found.spec_name == state.spec.name]


def _last_line(tail: str) -> str:
    lines = tail.strip().splitlines()
    return f": {lines[-1].strip()}" if lines else ""


def _die_with_parent() -> None:
    """Let the kernel send this new process SIGTERM when the supervisor ends, however it ends; prctl(2)."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
