"""A whole server on this machine with protocol-level nodes that are enrolled at it, and what it weighs.

``fl-server up`` keeps SuperLink, enrolment service and gateway up as it does for its users; nodes come in through the
gateway with client certificates of their own. Memory is PSS; a database counts with its write-ahead log.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from inject.harm import runs

from fl_client.node.identity import enrol
from fl_core.errors import RoundError
from fl_core.process.processes import end, pss_bytes
from fl_server.deploy.home import ServerHome
from fl_server.gateway.operate import create_token
from shared.protocol_node import home_of, nodes_up, open_table
from simulation.local_fleet import Live, LocalFleet, processes_of_server

ENROL_EVERY_S = 0.12
"""Below the ten enrolments a second that the gateway allows one address."""
CONNECTED_S = 600.0
LATELY_S = 30.0
"""A node that had an answer within this time is connected; it asks every 3 s."""
MB = 1e6


def python_path() -> None:
    """Let the server's processes find the factories in this folder."""
    os.environ["PYTHONPATH"] = os.pathsep.join((str(Path(__file__).parents[1]), *filter(None, sys.path)))
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@dataclass(frozen=True)
class Weight:
    """What the server weighs at one moment, in bytes, and what it has worked."""

    superlink: int
    server: int
    """All of its processes, ServerApp and supervisor among them."""
    database: int
    superlink_cpu_s: float
    """What the SuperLink that runs now has computed since it was started."""


class ServerScene:
    """A server that is up, and the table of the nodes that talk to it."""

    def __init__(self, live: Live, folder: Path, table: Any) -> None:
        self.live = live
        self.home = ServerHome.open(live.federation.server)
        self.folder = folder
        self.table = table

    def pids_of_superlink(self) -> list[int]:
        """The processes of the SuperLink that runs now."""
        pids = (found.pid for found in processes_of_server(self.live.federation))
        return [pid for pid in pids if runs(pid, "fl_server.deploy.superlink")]

    def weigh(self) -> Weight:
        """What it weighs now."""
        pids = [found.pid for found in processes_of_server(self.live.federation)]
        superlink = self.pids_of_superlink()
        database = sum(path.stat().st_size for path in self.home.flower.glob("superlink.sqlite*"))
        cpu_s = 0.0
        for pid in superlink:
            with suppress(psutil.Error):
                times = psutil.Process(pid).cpu_times()
                cpu_s += times.user + times.system
        return Weight(pss_bytes(superlink), pss_bytes([*pids, self.live.up_pid]), database, cpu_s)

    def kill(self, part: str) -> float:
        """SIGKILL to every process of one part of the server; gives the moment."""
        for found in processes_of_server(self.live.federation):
            if found.spec_name == part:
                os.kill(found.pid, signal.SIGKILL)
        return time.monotonic()

    def away(self) -> set[int]:
        """The nodes that are not to be there."""
        return set(np.flatnonzero(self.table["away"]).tolist())

    def heard_since(self, since_s: float) -> set[int]:
        """The nodes that had an answer since that moment (of time.monotonic)."""
        return set(np.flatnonzero(self.table["heard_s"] > since_s).tolist())

    def connected(self) -> set[int]:
        """The nodes that are there now."""
        return self.heard_since(time.monotonic() - LATELY_S) - self.away()


def wait_for(holds: Callable[[], object], limit_s: float, what: str) -> None:
    """Until ``holds``.

    Raises:
        RoundError: it does not within ``limit_s``.
    """
    ends = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > ends:
            raise RoundError(f"{what}: expected within {limit_s:g} s")
        time.sleep(0.1)


@contextmanager
def scene(folder: Path, nodes: int, processes: int, say: Callable[[str], None]) -> Iterator[ServerScene]:
    """A server and ``nodes`` nodes that are enrolled and connected; all of it is gone at the end.

    Raises:
        RoundError: the server or a node does not come up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    federation = LocalFleet(folder, folder / "config.yaml", (), ())
    with ExitStack() as everything:
        everything.callback(lambda: end(found.pid for found in processes_of_server(federation)))
        live = Live(federation, everything)
        live.make_server()
        live.start_server()
        say(f"server and gateway are up on {live.url}")
        for number in range(nodes):
            name = home_of(folder, number).name
            token = create_token(federation.server, client_id=name, auto_approve=True)
            enrol(home_of(folder, number), live.url, token)
            time.sleep(ENROL_EVERY_S)
        say(f"{nodes} nodes are enrolled: a key and a certificate each")
        table = open_table(folder, nodes)
        everything.enter_context(nodes_up(folder, nodes, processes))
        here = ServerScene(live, folder, table)
        wait_for(lambda: len(here.heard_since(0.0)) == nodes, CONNECTED_S, f"{nodes} connected nodes")
        say("all nodes are connected")
        yield here
