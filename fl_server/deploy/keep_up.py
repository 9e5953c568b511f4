"""``fl-server up``: everything that a server consists of, started, kept up and taken down by one process.

The SuperLink listens on loopback alone and keeps its state in SQLite; the gateway is what devices reach. A wanted run
is started once all of that is up, and again after whatever interrupted it.
"""

from __future__ import annotations

import datetime
import logging
import threading
import time
from collections.abc import Callable

from fl_core.errors import RunFolderError
from fl_core.files import folder_lock
from fl_core.process.supervise import Supervisor
from fl_server.deploy.bundle import write_bundle
from fl_server.deploy.control import Control, environment, write_connection
from fl_server.deploy.health import Health, serve_health
from fl_server.deploy.home import ServerHome
from fl_server.deploy.processes import refuse_taken_ports, server_processes
from fl_server.deploy.registrar import NodeRegistrar
from fl_server.deploy.renewal import ServerCertificateRenewal
from fl_server.deploy.run_supervisor import RunSupervisor
from fl_server.watch.status import RunStatus, RunTail

logger = logging.getLogger(__name__)

TICK_S = 0.2
LOCK_WAIT_S = 1.0
"""How long a command may hold the folder's lock that only asks whether somebody else does."""


def keep_up(home: ServerHome, stop: threading.Event, say: Callable[[str], None]) -> None:
    """Run the server until ``stop`` is set.

    Args:
        home: the server's folder.
        stop: set by whoever ends the server.
        say: takes one line about what changed.

    Raises:
        RunFolderError: the server of this folder is up already.
        ConfigError: a port is taken by something else.
        EndedForGoodError: a process ended for a reason that no further start mends.
    """
    taken = RunFolderError(f"{home.folder}: the server of this folder is up already")
    with folder_lock(home.folder, taken, LOCK_WAIT_S):
        write_bundle(home.bundle)
        write_connection(home)
        supervisor = Supervisor(home.folder, home.logs, server_processes(home), environment(home))
        if supervisor.end_leftovers():
            say("ended what a server that was killed had left behind")
        refuse_taken_ports(home)
        control = Control(home)
        run_supervisor, watch = RunSupervisor(home, control), NewestRun(home)
        renewal = ServerCertificateRenewal(home.folder, home.settings.host, lambda: supervisor.restart("superlink"))
        ready = threading.Event()
        registrar = NodeRegistrar(home, control)
        keeper = threading.Thread(target=registrar.keep, args=(ready, stop), name="registrar", daemon=True)
        keeper.start()

        def health() -> Health:
            devices = registrar.trouble if keeper.is_alive() else "what lets them in has ended; start the server again"
            found = supervisor.describe(), watch.status(), run_supervisor.trouble, devices
            return Health(supervisor.ready, *found, registrar.waiting, registrar.doubles, time.time())

        try:
            with serve_health(health, home.settings.health_port) as port:
                say(f"health and metrics: http://127.0.0.1:{port}/healthz and /metrics")
                _loop(supervisor, run_supervisor, renewal, ready, stop, say)
        finally:
            supervisor.stop()


def _loop(
    supervisor: Supervisor,
    run_supervisor: RunSupervisor,
    renewal: ServerCertificateRenewal,
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
            run_supervisor.step()
        if run_supervisor.trouble != was_trouble:
            was_trouble = run_supervisor.trouble
            say(was_trouble or "the run goes on")
        stop.wait(TICK_S)


class NewestRun:
    """The status of the run that is wanted, or else was written last; each question reads what is new."""

    def __init__(self, home: ServerHome) -> None:
        self._home = home
        self._tail: RunTail | None = None
        self._lock = threading.Lock()  # each request of the endpoint has a thread of its own

    def status(self) -> RunStatus | None:
        """The status of that run as of this moment; None where there is no run."""
        with self._lock:
            name = self._home.wanted() or self._home.newest()
            if name is None:
                return None
            run_dir = self._home.runs / name
            if self._tail is None or self._tail.run_dir != run_dir:
                self._tail = RunTail(run_dir)
            return RunStatus.of(self._tail.poll())
