"""``fl-server up``: everything that a server consists of, started, kept up and taken down by one process.

The SuperLink listens on loopback alone and keeps its state in SQLite; the gateway is what devices reach. A wanted run
is started once all of that is up, and again after whatever interrupted it.
"""

from __future__ import annotations

import datetime
import logging
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict

from fl_core.errors import ConfigError
from fl_core.files import run_lock
from fl_core.process.supervise import ProcessSpec, Supervisor
from fl_server.deploy.bundle import write_bundle
from fl_server.deploy.control import Control, environment, write_connection
from fl_server.deploy.endpoint import Health, serve
from fl_server.deploy.home import ServerHome
from fl_server.deploy.renewal import GatewayRenewal
from fl_server.deploy.roster import Roster
from fl_server.deploy.run_supervisor import RunSupervisor
from fl_server.gateway.layout import GatewayFiles
from fl_server.gateway.nginx import GatewaySettings, nginx_command, write_nginx_conf
from fl_server.gateway.service import service_command
from fl_server.watch.status import RunStatus, RunTail

logger = logging.getLogger(__name__)

TICK_S = 0.2
TURN_S = 1.0
"""How long a command may hold the folder's lock that only asks whether somebody else does."""


def superlink(home: ServerHome) -> ProcessSpec:
    """The SuperLink, on loopback only."""
    files, port = GatewayFiles(home.folder), home.settings.superlink_port
    command = (
        *(sys.executable, "-m", "fl_server.deploy.superlink"),
        *("--ssl-ca-certfile", str(files.ca_certificate)),
        *("--ssl-certfile", str(files.server_certificate)),
        *("--ssl-keyfile", str(files.server_key)),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--database", str(home.flower / "superlink.sqlite")),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
    )
    # A SuperLink starts its SuperExec once; without it no ServerApp starts.
    return ProcessSpec("superlink", lambda: command, ready=lambda: listens(port), helper="flower-superexec")


def listens(port: int) -> bool:
    """Whether somebody takes connections on a port of this machine."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
        return True
    return False


def parts_of(home: ServerHome) -> list[ProcessSpec]:
    """All processes of a server, in the order in which they start: each waits for those before it.

    Raises:
        IdentityError: the folder has no authority, or nginx is not installed.
    """
    settings = home.settings
    gateway = GatewaySettings(
        settings.gateway_port, settings.service_port, f"https://127.0.0.1:{settings.superlink_port}"
    )
    write_nginx_conf(home.folder, gateway)
    enrolment = service_command(home.folder, settings.service_port)
    nginx = nginx_command(home.folder)

    def all_listen(*ports: int) -> Callable[[], bool]:
        return lambda: all(map(listens, ports))

    behind = (settings.superlink_port, settings.service_port)
    return [
        superlink(home),
        ProcessSpec("enrolment", lambda: enrolment, may_start=all_listen(*behind[:1]), ready=all_listen(*behind[1:])),
        ProcessSpec("gateway", lambda: nginx, may_start=all_listen(*behind), ready=all_listen(settings.gateway_port)),
    ]


def keep_up(home: ServerHome, stop: threading.Event, say: Callable[[str], None]) -> None:
    """Run the server until ``stop`` is set.

    Args:
        home: the server's folder.
        stop: set by whoever ends the server.
        say: takes one line about what changed.

    Raises:
        RunFolderError: the server of this folder is up already.
        ConfigError: a port is taken by something else.
    """
    with run_lock(home.folder, TURN_S, "the server of this folder is up already"):
        write_bundle(home.bundle)
        write_connection(home)
        supervisor = Supervisor(home.folder, home.logs, parts_of(home), environment(home))
        if supervisor.end_leftovers():
            say("ended what a server that was killed had left behind")
        _refuse_taken_ports(home)
        control = Control(home)
        director, watch = RunSupervisor(home, control), NewestRun(home)
        renewal = GatewayRenewal(home.folder, home.settings.host, lambda: supervisor.restart("superlink"))
        ready = threading.Event()
        roster = Roster(home, control)
        keeper = threading.Thread(target=roster.keep, args=(ready, stop), name="roster", daemon=True)
        keeper.start()

        def health() -> Health:
            devices = roster.trouble if keeper.is_alive() else "what lets them in has ended; start the server again"
            return Health(supervisor.ready, supervisor.describe(), watch.status(), director.trouble, devices)

        try:
            with serve(health, home.settings.health_port) as port:
                say(f"health and metrics: http://127.0.0.1:{port}/healthz and /metrics")
                _loop(supervisor, director, renewal, ready, stop, say)
        finally:
            supervisor.stop()


def _loop(
    supervisor: Supervisor,
    director: RunSupervisor,
    renewal: GatewayRenewal,
    ready: threading.Event,
    stop: threading.Event,
    say: Callable[[str], None],
) -> None:
    was_ready, was_trouble = False, None
    while not stop.is_set():
        if renewal.step(datetime.datetime.now(datetime.timezone.utc)):
            say("the server's certificate was renewed")
        supervisor.step()
        if supervisor.ready != was_ready:
            was_ready = supervisor.ready
            (ready.set if was_ready else ready.clear)()
            say("everything is up" if was_ready else "a process died and starts again")
        if was_ready:
            director.step()
        if director.trouble != was_trouble:
            was_trouble = director.trouble
            say(was_trouble or "the run goes on")
        stop.wait(TICK_S)


def _refuse_taken_ports(home: ServerHome) -> None:
    taken = [
        f"{name} {port}" for name, port in asdict(home.settings).items() if name.endswith("_port") and listens(port)
    ]
    if taken:
        raise ConfigError(f"{home.folder}: expected free ports, something listens on {', '.join(taken)}")


class NewestRun:
    """The status of the run that is wanted, or else was written last; each question reads what is new."""

    def __init__(self, home: ServerHome) -> None:
        self._home = home
        self._tail: RunTail | None = None
        self._lock = threading.Lock()  # each request of the endpoint has a thread of its own

    def status(self) -> RunStatus | None:
        """The status now; None where there is no run."""
        with self._lock:
            name = self._home.wanted() or self._home.newest()
            if name is None:
                return None
            run_dir = self._home.runs / name
            if self._tail is None or self._tail.run_dir != run_dir:
                self._tail = RunTail(run_dir)
            return RunStatus.of(self._tail.poll())
