"""Stock Flower on this machine: a SuperLink, one SuperNode, and runs of a ClientApp that trains in its own process.

Without TLS and node authentication, and so without what these take.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
from flwr.app import Context, Message
from flwr.serverapp import Grid, ServerApp

import fl_core
from fl_core import wire
from fl_core.config import load_config
from fl_core.types import ClientInfo
from fl_server.plan.tasks import plan_of
from fl_server.plan.validate import checked_setup
from simulation.local_fleet import free_ports

server = ServerApp()
UP_S, ROUND_S = 120.0, 600.0
_PYPROJECT = """\
[project]
name = "stock"
version = "1.0.0"
description = "Trains as stock Flower does"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "stonecrop"

[tool.flwr.app.components]
serverapp = "server_side:app"
clientapp = "client_side:app"

[tool.flwr.app.config]
config = ""
client = ""
done = ""
whole_opacus = true
rounds = 1
"""


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Send the plan of each round to the only node, and check that an update comes back."""
    said = context.run_config
    federation, setup = checked_setup(load_config(Path(str(said["config"]))))
    client = str(said["client"])
    info = ClientInfo(client, len(federation.clients[client].train), fl_core.__version__, simulated=False)
    model = wire.pack_tensors(setup.initial_state().model)
    while not list(grid.get_node_ids()):
        time.sleep(0.2)
    for number in range(1, int(said["rounds"]) + 1):
        content = wire.pack_task(plan_of(setup, info, number, number - 1), model)
        (node,) = grid.get_node_ids()
        (reply,) = grid.send_and_receive([Message(content, node, "train")], timeout=ROUND_S)
        wire.unpack_update(reply.content, client)
    Path(str(said["done"])).touch()


class StockFlower:
    """Processes that are up, and the app that runs on them."""

    def __init__(self, folder: Path, port: int, supernode: psutil.Process, env: dict[str, str]) -> None:
        self.supernode = supernode
        self._folder, self._env = folder, env
        (folder / "config.toml").write_text(f'[superlink.stock]\naddress = "127.0.0.1:{port}"\ninsecure = true\n')
        app = folder / "app"
        app.mkdir()
        (app / "pyproject.toml").write_text(_PYPROJECT)
        (app / "server_side.py").write_text("from stock_flower import server as app\n\n__all__ = ['app']\n")
        (app / "client_side.py").write_text("from shared.stock_client import app\n\n__all__ = ['app']\n")

    def run(self, config: Path, client: str, rounds: int, whole_opacus: bool) -> None:
        """One run to its end.

        Raises:
            RuntimeError: it failed; the message is what Flower said last.
        """
        finished = self._folder / "done"
        finished.unlink(missing_ok=True)
        said = f'config="{config}" client="{client}" done="{finished}" rounds={rounds}'
        said += f" whole_opacus={str(whole_opacus).lower()}"
        words = [_program("flwr"), "run", str(self._folder / "app"), "stock", "--stream", "--run-config", said]
        done = subprocess.run(words, env=self._env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if not finished.exists():
            raise RuntimeError(f"stock Flower: {done.stdout[-3000:]}")


@contextmanager
def stock_up(folder: Path) -> Iterator[StockFlower]:
    """SuperLink and one SuperNode, connected; all gone at the end."""
    folder.mkdir(parents=True)
    port, node_port = free_ports(2)
    env = {
        **os.environ,
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
        "FLWR_HOME": str(folder),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    }
    with ExitStack() as everything:

        def start(program: str, *words: str) -> psutil.Popen:
            log = everything.enter_context((folder / f"{program}.log").open("wb"))
            process = psutil.Popen([_program(program), *words], stdout=log, stderr=log, env=env, start_new_session=True)
            everything.callback(_end, process)
            return process

        where = ("--host", "127.0.0.1", "--port")
        start("flower-superlink", "--insecure", "--disable-runtime-dependency-installation", *where, str(port))
        _wait(lambda: _listens(port), "flower-superlink")
        node = ("--insecure", "--superlink", f"127.0.0.1:{port}", *where, str(node_port))
        supernode = start("flower-supernode", *node)
        _wait(lambda: any("superexec" in " ".join(child.cmdline()) for child in supernode.children()), "SuperExec")
        time.sleep(5.0)  # until it has loaded what it needs
        yield StockFlower(folder, port, supernode, env)


def _program(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _listens(port: int) -> bool:
    return any(c.laddr.port == port for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN)


def _end(process: psutil.Popen) -> None:
    with suppress(psutil.NoSuchProcess):
        everyone = [process, *process.children(recursive=True)]
        process.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(everyone, timeout=15)
        for each in alive:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(alive, timeout=15)


def _wait(ready: Callable[[], bool], what: str) -> None:
    ends = time.monotonic() + UP_S
    while not ready():
        if time.monotonic() > ends:
            raise TimeoutError(f"{what}: expected to be up within {UP_S:g} s")
        time.sleep(0.2)
