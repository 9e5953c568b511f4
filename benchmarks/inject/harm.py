"""What can happen to a federation of real processes: each fault as a function that does it and mends what people mend.

A killed ``fl-server up`` or ``fl-client run`` is started again, as systemd does. Everything else has to come back by
itself. A fault gives the moment from which its recovery is timed, which is that of the kill, or of the mending.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from fl_core.errors import RoundError
from fl_core.process.processes import RunningProcess, end
from fl_core.runlog import Event
from fl_server.watch.tail import EventTail
from simulation.local_fleet import Live, processes_of_board, processes_of_server

STALL_S, LOST_S = 40.0, 1200.0
APPEAR_S = 60.0
"""How long the wanted process, a line or an event may take to be there."""
RESTART_S = 1.0
"""Of systemd, for a service that is to be always up."""


class Watch:
    """The events of a run as they hold now: a resumed run takes some back."""

    def __init__(self, run_dir: Path) -> None:
        self._tail = EventTail(run_dir)
        self.events: list[Event] = []

    def poll(self) -> list[Event]:
        """All events that hold."""
        held, new = self._tail.poll()
        self.events = [*self.events, *new] if held else new
        return self.events

    def of_kind(self, kind: str) -> list[Event]:
        """Those of one kind."""
        return [event for event in self.poll() if event["kind"] == kind]


@dataclass(frozen=True)
class FleetScene:
    """Where faults happen."""

    live: Live
    watch: Watch
    draw: random.Random
    pass_lost_time: Callable[[float], None] = time.sleep
    """How the time of a lost server passes."""

    def wait(self, holds: Callable[[], object], what: str, limit_s: float = APPEAR_S) -> None:
        """Until ``holds``.

        Raises:
            RoundError: it does not within ``limit_s``.
        """
        ends = time.monotonic() + limit_s
        while not holds():
            if time.monotonic() > ends:
                raise RoundError(f"{what}: expected within {limit_s:g} s")
            time.sleep(0.02)

    def server_pid(self, program: str) -> int:
        """The process below the server that runs ``program``."""
        return self._pid(lambda: [found.pid for found in processes_of_server(self.live.federation)], program)

    def board_pid(self, person: str, program: str) -> int:
        """The process of a board that runs ``program``."""
        return self._pid(lambda: [found.pid for found in processes_of_board(self.live.federation, person)], program)

    def _pid(self, pids: Callable[[], list[int]], program: str) -> int:
        found: list[int] = []

        def look() -> list[int]:
            found[:] = [pid for pid in pids() if runs(pid, program)]
            return found

        self.wait(look, program)
        return min(found)  # a master is older than its workers


Harm = Callable[[FleetScene, str], float]


def runs(pid: int, program: str) -> bool:
    """Whether a process runs the program, or the module, of that name."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        words = [process.name(), *" ".join(process.cmdline()[:3]).split()]
        return any(Path(word).name.rstrip(":") == program for word in words)
    return False


def kill_of_server(program: str) -> Harm:
    """SIGKILL to a process below ``fl-server up``."""
    return lambda scene, person: _kill(scene.server_pid(program))


def kill_of_board(program: str) -> Harm:
    """SIGKILL to a process below ``fl-client run``."""
    return lambda scene, person: _kill(scene.board_pid(person, program))


def kill_up(scene: FleetScene, person: str) -> float:
    """SIGKILL to ``fl-server up``, and another one a second later."""
    killed = _kill(scene.live.up_pid)
    time.sleep(RESTART_S)
    scene.live.start_server()
    return killed


def kill_run(scene: FleetScene, person: str) -> float:
    """SIGKILL to ``fl-client run``, and another one a second later."""
    killed = _kill(scene.live.boards[person].pid)
    time.sleep(RESTART_S)
    scene.live.start_board(person)
    return killed


def lose_server(scene: FleetScene, person: str) -> float:
    """The whole server is gone for long; every trainer stays, and every board finds the next server by itself."""
    trainers = {each: scene.board_pid(each, "fl_client.trainer") for each in scene.live.boards}
    _kill(scene.live.up_pid)
    end(found.pid for found in processes_of_server(scene.live.federation))
    scene.pass_lost_time(LOST_S)
    scene.live.start_server()
    for each, pid in trainers.items():
        if scene.board_pid(each, "fl_client.trainer") != pid:
            raise RoundError(f"{each}: expected trainer {pid} to outlive {LOST_S:g} s alone, got another one")
    return time.monotonic()


def stall_network(scene: FleetScene, person: str) -> float:
    """The forwarder of a board stands still: its connections stay open and nothing goes through them."""
    stalled = _pids_of(processes_of_board(scene.live.federation, person), "forwarder")
    _send(stalled, signal.SIGSTOP)
    try:
        time.sleep(STALL_S)
    finally:
        _send(stalled, signal.SIGCONT)
    return time.monotonic()


def drop_at_gateway(scene: FleetScene, person: str) -> float:
    """In the gateway's place something takes every connection and cuts it off, as a load balancer without a server."""
    gateway = _pids_of(processes_of_server(scene.live.federation), "gateway")
    return _cut_off(scene.live.up_pid, gateway, scene.live.gateway_port)


def drop_at_forwarder(scene: FleetScene, person: str) -> float:
    """The same in the place of a board's forwarder, which its SuperNode talks to."""
    forwarder = _pids_of(processes_of_board(scene.live.federation, person), "forwarder")
    return _cut_off(scene.live.boards[person].pid, forwarder, scene.live.forwarder_port(person))


def _cut_off(supervisor: int, processes: Sequence[int], port: int) -> float:
    """Take a port from processes for ``STALL_S``, and cut off whoever connects; their supervisor cannot start them."""
    _send([supervisor], signal.SIGSTOP)  # it would be quicker
    try:
        end(processes)
        listener = socket.create_server(("127.0.0.1", port))
    finally:
        _send([supervisor], signal.SIGCONT)
    ends = time.monotonic() + STALL_S
    cut = 0
    with listener:
        while (left_s := ends - time.monotonic()) > 0:
            listener.settimeout(left_s)
            with suppress(TimeoutError):
                listener.accept()[0].close()
                cut += 1
    if not cut:
        raise RoundError(f"port {port}: expected connections to cut off, got none")
    return time.monotonic()


def fill_disk(scene: FleetScene, person: str) -> float:
    """No file of the trainer may grow, as on a full disk, until a round has been over; then there is room again."""
    trainer = psutil.Process(scene.board_pid(person, "fl_client.trainer"))
    before = len(scene.watch.of_kind("round_finished"))
    trainer.rlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    try:
        scene.wait(lambda: len(scene.watch.of_kind("round_finished")) > before + 1, "a round without the full device")
    finally:
        with suppress(psutil.NoSuchProcess):
            trainer.rlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return time.monotonic()


def shift_clock(scene: FleetScene, person: str) -> float:
    """A board whose clock is an hour ahead says so in words and is not let in; then its clock is set right."""
    path = os.pathsep.join((str(Path(__file__).with_name("wrong_clock")), os.environ["PYTHONPATH"]))
    log = scene.live.board_log(person)
    scene.live.stop_board(person)
    said_before = log.stat().st_size
    scene.live.start_board(person, before=("env", f"PYTHONPATH={path}"))
    try:
        scene.wait(lambda: "ahead of the server's" in log.read_text()[said_before:], "the wrong clock in words", 120.0)
    finally:
        scene.live.stop_board(person)
    scene.live.start_board(person)
    return time.monotonic()


def send_nan(scene: FleetScene, person: str) -> float:
    """A board with changed code sends updates that are not numbers, until one was rejected; then its code is right."""
    before = len(scene.watch.of_kind("client_rejected"))
    python = scene.live.federation.folder / "sick-python"
    python.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} {Path(__file__).with_name("sick_trainer.py")} "$@"\n')
    python.chmod(0o755)
    scene.live.stop_board(person)
    scene.live.start_board(person, flags=("--trainer-python", str(python)))
    try:
        scene.wait(lambda: len(scene.watch.of_kind("client_rejected")) > before, "the rejection of NaN", 180.0)
    finally:
        scene.live.stop_board(person)
    scene.live.start_board(person)
    return time.monotonic()


KILLS: Mapping[str, Harm] = {
    "ServerApp": kill_of_server("flwr-serverapp"),
    "SuperLink": kill_of_server("fl_server.deploy.superlink"),
    "server-SuperExec": kill_of_server("flower-superexec"),
    "gateway": kill_of_server("nginx"),
    "enrolment": kill_of_server("fl_server.gateway.service"),
    "up": kill_up,
    "SuperNode": kill_of_board("fl_client.board.supernode"),
    "SuperExec": kill_of_board("fl_client.board.superexec"),
    "trainer": kill_of_board("fl_client.trainer"),
    "shell": kill_of_board("flwr-clientapp"),
    "forwarder": kill_of_board("nginx"),
    "run": kill_run,
}
"""What is killed with SIGKILL; ``up`` and ``run`` are the supervisors of server and board."""

OTHERS: Mapping[str, Harm] = {
    "stall": stall_network,
    "dropping-gateway": drop_at_gateway,
    "dropping-forwarder": drop_at_forwarder,
    "lost-server": lose_server,
    "full-disk": fill_disk,
    "clock": shift_clock,
    "nan": send_nan,
}
"""What else happens, once each."""


def _kill(pid: int) -> float:
    os.kill(pid, signal.SIGKILL)
    return time.monotonic()


def _pids_of(found: Sequence[RunningProcess], part: str) -> list[int]:
    return [each.pid for each in found if each.spec_name == part]


def _send(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
