"""Keeps processes up: starts them in order, starts again what dies, with back-off, and ends all of them.

Each process leads a session of its own, so Ctrl-C at a terminal reaches the supervisor alone, which then stops the
others in reverse order. Flower's processes start children in sessions of their own; those are found by parentage and
ended too. A table on disk lets the next supervisor end what a killed one left behind.
"""

from __future__ import annotations

import json
import logging
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from fl_core.errors import RoundError
from fl_core.runlog import write_json

logger = logging.getLogger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
"""Back-off between two starts of one process; it doubles."""
STEADY_S = 60.0
"""A process that ran so long starts again at once when it dies."""
STOP_S = 10.0
"""How long a process may take to end when it is asked to; then it is killed."""


@dataclass(frozen=True)
class Service:
    """One process to keep up."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    ready: Callable[[], bool]
    """Whether it does its work; asked for while it starts."""
    ready_s: float = 60.0
    """How long it may take to become ready; then it is started anew."""


@dataclass
class _State:
    service: Service
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    is_ready: bool = False
    restarts: int = 0
    wait_s: float = FIRST_WAIT_S
    not_before: float = 0.0


@dataclass
class Supervisor:
    """Runs ``services``; call ``step`` again and again, and ``stop`` at the end.

    Args:
        services: in the order in which they start; each waits until those before it are ready.
        logs: folder in which each process writes ``<name>.log``.
        table: file that says which processes are ours.
    """

    services: Sequence[Service]
    logs: Path
    table: Path
    _states: list[_State] = field(init=False)

    def __post_init__(self) -> None:
        self._states = [_State(service) for service in self.services]
        self.logs.mkdir(parents=True, exist_ok=True)

    def step(self) -> None:
        """Notice deaths, start what is due; never blocks for long."""
        now = time.monotonic()
        for state in self._states:
            self._notice(state, now)
        for state in self._states:
            if state.process is None and now >= state.not_before:
                self._start(state, now)
            if not state.is_ready:
                return  # those after it wait

    @property
    def ready(self) -> bool:
        """Whether every process does its work."""
        return all(state.is_ready for state in self._states)

    def describe(self) -> dict[str, dict[str, object]]:
        """Each process: its id, whether it is ready, how often it was started again."""
        return {
            state.service.name: {
                "pid": state.process.pid if state.process else None,
                "ready": state.is_ready,
                "restarts": state.restarts,
            }
            for state in self._states
        }

    def stop(self) -> None:
        """End all processes and their children, the last started first."""
        for state in reversed(self._states):
            if state.process is not None:
                _end_tree(state.process.pid)
                state.process.wait()
                state.process, state.is_ready = None, False
        self.table.unlink(missing_ok=True)

    def end_leftovers(self) -> int:
        """End what a supervisor that was killed left behind; gives the number of processes."""
        if not self.table.is_file():
            return 0
        found = 0
        for pid, born in json.loads(self.table.read_text(encoding="utf-8"))["processes"]:
            with suppress(psutil.NoSuchProcess):
                if abs(psutil.Process(pid).create_time() - born) < 1.0:
                    found += 1
                    _end_tree(pid)
        self.table.unlink(missing_ok=True)
        return found

    def _start(self, state: _State, now: float) -> None:
        service = state.service
        with (self.logs / f"{service.name}.log").open("ab") as log:
            state.process = subprocess.Popen(
                list(service.command),
                env=dict(service.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        state.started, state.is_ready = now, False
        self._write_table()

    def _notice(self, state: _State, now: float) -> None:
        if state.process is None:
            return
        code = state.process.poll()
        if code is None and not state.is_ready:
            state.is_ready = state.service.ready()
            if not state.is_ready and now - state.started > state.service.ready_s:
                logger.warning("%s: not ready after %g s", state.service.name, state.service.ready_s)
                _end_tree(state.process.pid)
                code = state.process.wait()
        if code is None:
            return
        steady = now - state.started > STEADY_S
        state.wait_s = FIRST_WAIT_S if steady else min(state.wait_s * 2, LONGEST_WAIT_S)
        state.not_before = now + state.wait_s
        state.process, state.is_ready = None, False
        state.restarts += 1
        logger.warning("%s: ended with %d, starts again in %g s", state.service.name, code, state.wait_s)

    def _write_table(self) -> None:
        processes = []
        for state in self._states:
            if state.process is not None:
                with suppress(psutil.NoSuchProcess):
                    processes.append((state.process.pid, psutil.Process(state.process.pid).create_time()))
        write_json(self.table, {"processes": processes})


def wait_until(ready: Callable[[], bool], step: Callable[[], None], limit_s: float, what: str) -> None:
    """Call ``step`` until ``ready``.

    Raises:
        RoundError: it took longer than ``limit_s``.
    """
    ends = time.monotonic() + limit_s
    while not ready():
        if time.monotonic() > ends:
            raise RoundError(f"{what}: expected within {limit_s:g} s, did not come")
        step()
        time.sleep(0.1)


def _end_tree(pid: int) -> None:
    """Ask a process and all its descendants to end, and kill those that do not."""
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, alive = psutil.wait_procs(family, timeout=STOP_S)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=STOP_S)
