"""A server and its devices as real processes on loopback, for tests: started in a folder, and all gone at its end.

Devices stand directly before the SuperLink here, without the gateway, which has tests of its own; each is a trainer
process with a SuperNode, a key that is registered, and the toy federation's data of one client.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fl_core.privacy.policy import DevicePolicy
from fl_server.deploy.control import Control, environment
from fl_server.deploy.home import ServerHome, Settings
from fl_server.deploy.operations import make_home
from fl_server.gateway.layout import GatewayFiles

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[2]
POLICY = DevicePolicy(epsilon_cap=8.0, delta=1e-5, max_clip_norm=1.0, min_noise_multiplier=0.1, max_sample_rate=1.0)


@dataclass
class LiveServer:
    """``fl-server up`` at work."""

    home: ServerHome
    up: psutil.Popen

    def find(self, name: str) -> psutil.Process:
        """The first process below the server that runs the program or module ``name``."""
        return next(p for p in self.up.children(recursive=True) if _runs(p, name))


def _runs(process: psutil.Process, name: str) -> bool:
    with suppress(psutil.NoSuchProcess):
        return any(Path(word).name.rstrip(":") == name for word in " ".join(process.cmdline()[:3]).split())
    return False


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on just now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def python_environment(home: ServerHome) -> dict[str, str]:
    """Flower's environment with the tests' own modules in reach."""
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    return environment(home) | {"PYTHONPATH": path}


def command(home: ServerHome, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """``fl-server`` with these arguments, run to its end."""
    return subprocess.run(
        [sys.executable, "-m", "fl_server.cli", *arguments],
        env=python_environment(home), capture_output=True, text=True, timeout=options.get("timeout", 120),
    )  # fmt: skip


def eventually(ready: Callable[[], Any], limit_s: float, what: str) -> Any:
    """What ``ready`` gives as soon as it is true."""
    ends = time.monotonic() + limit_s
    while not (found := ready()):
        assert time.monotonic() < ends, f"{what}: not within {limit_s:g} s"
        time.sleep(0.05)
    return found


def is_alive(process: psutil.Process) -> bool:
    """Whether a process still runs; one that only waits to be collected does not."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def end(process: psutil.Popen) -> None:
    """End a process and all below it."""
    with suppress(psutil.NoSuchProcess):
        family = [*process.children(recursive=True), process]
        for each in family:
            with suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=10)
        for each in alive:
            with suppress(psutil.NoSuchProcess):
                each.kill()


def new_home(folder: Path) -> ServerHome:
    """A server's folder on ports that are free."""
    return make_home(folder, Settings("localhost", *free_ports(4)))


@contextmanager
def server_up(home: ServerHome) -> Iterator[LiveServer]:
    """``fl-server up``, ready for devices."""
    with (home.logs / "up.log").open("ab") as log:
        up = psutil.Popen(
            [sys.executable, "-m", "fl_server.cli", "up", str(home.folder)],
            env=python_environment(home), stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        eventually(lambda: b"everything is up" in (home.logs / "up.log").read_bytes(), 60, "fl-server up")
        yield LiveServer(home, up)
    finally:
        if is_alive(up):
            below = up.children(recursive=True)
            up.send_signal(signal.SIGTERM)
            assert up.wait(timeout=60) == 0
            assert not [process for process in below if is_alive(process)], "left behind"


@contextmanager
def devices(server: LiveServer, clients: Mapping[str, Path], device: Mapping[str, Any]) -> Iterator[None]:
    """A device for each client, in its folder, until the context ends; ``device`` is what its device.yaml says."""
    with ExitStack() as stack:
        for client_id, folder in clients.items():
            _start_device(stack, server, client_id, folder, device)
        yield


def _start_device(
    stack: ExitStack, server: LiveServer, client_id: str, folder: Path, device: Mapping[str, Any]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    device = {"client_id": client_id, "factories": ["toy:model"], **device}
    (folder / "device.yaml").write_text(yaml.safe_dump(device))
    POLICY.save(folder / "policy.json")
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    (folder / "node.key").write_bytes(private)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    Control(server.home).register(public, client_id)
    home = server.home
    trainer = [sys.executable, "-m", "fl_client.trainer", "--home", str(folder)]
    node = [
        *(str(BIN / "flower-supernode"), "--superlink", f"127.0.0.1:{home.settings.superlink_port}"),
        *("--root-certificates", str(GatewayFiles(home.folder).ca_certificate)),
        *("--auth-supernode-private-key", str(folder / "node.key")),
        *("--host", "127.0.0.1", "--port", str(free_ports(1)[0])),
        *("--node-config", f'trainer-socket="{folder / "run" / "trainer.sock"}"'),
    ]
    for name, each in (("trainer", trainer), ("node", node)):
        with (folder / f"{name}.log").open("ab") as log:
            env = python_environment(home) | {"FLWR_HOME": str(folder / "flower")}
            stack.callback(end, psutil.Popen(each, env=env, stdout=log, stderr=log, start_new_session=True))
