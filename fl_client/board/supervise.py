"""The processes of a board and the loop that keeps them up: trainer, forwarder, SuperNode."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue

from fl_client.home import DeviceHome, run_folder_of
from fl_client.node.explain import explain_end, with_clock, with_server
from fl_client.node.forwarder import forwarder_command, write_forwarder_conf
from fl_client.node.identity import Identity, clock_error_s, load_identity
from fl_client.node.standing import standing_of
from fl_client.node.upkeep import look_after
from fl_client.shell.protocol import SOCKET_KEY
from fl_client.trainer.stopping import TASK_S, TRAINER_STOP_S
from fl_core.errors import ConfigError, IdentityError, PolicyError
from fl_core.files import folder_lock
from fl_core.process.ports import free_ports_above, listens
from fl_core.process.supervise import ExitReason, ProcessSpec, Supervisor
from fl_core.process.table import end_of

logger = logging.getLogger(__name__)

_STEP_S = 0.5
_LOOK_S = 0.2
"""How long a look at the forwarder's port may hold the loop up."""
_LONGEST_WAIT_S = 60.0
_SUPEREXEC = "fl_client.board.superexec"
"""The module of the SuperExec, which a SuperNode starts once; without it the node stays online and answers nothing."""
_QUIET = {
    "MALLOC_ARENA_MAX": "2",  # each thread's own heap would cost a small board tens of megabytes
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
}


@dataclass(frozen=True)
class Ports:
    """Loopback ports of a board; two boards on one machine need different ones.

    Raises:
        ConfigError: two of them are equal.
    """

    forwarder: int = 9120
    supernode: int = 9121
    metrics: int | None = 9122
    """None where the trainer is another service, which has its own."""

    def __post_init__(self) -> None:
        given = self.by_option()
        if len(set(given.values())) < len(given):
            raise ConfigError(f"ports: expected all different, got {_listed(given)}")

    def by_option(self) -> dict[str, int]:
        """Each port by the option that gives it."""
        return {f"--{name}-port": port for name, port in asdict(self).items() if port is not None}

    def refuse_taken(self) -> None:
        """Make sure that a board that is about to start can have its ports.

        Raises:
            ConfigError: something listens on one of them; the message names them all, with ports that are free.
        """
        given = self.by_option()
        taken = {option: port for option, port in given.items() if listens(port, _LOOK_S)}
        if taken:
            instead = dict(zip(taken, free_ports_above(max(given.values()), len(taken)), strict=False))
            raise ConfigError(
                f"ports: expected free ones, something listens on {_listed(taken)}; where that is another board of "
                f"this machine, give this one others, such as {_listed(instead)}"
            )


def _listed(by_option: Mapping[str, int]) -> str:
    return " ".join(f"{option} {port}" for option, port in by_option.items())


def trainer_process(home: DeviceHome, ports: Ports, python: str) -> ProcessSpec:
    """The resident trainer, run by the interpreter ``python``, which may be another one than the SuperNode's."""
    command = [python, "-m", "fl_client.trainer", "--home", str(home.folder), "--metrics-port", str(ports.metrics)]

    def explain(tail: str) -> ExitReason | None:
        end = end_of(home.run_folder)
        return None if end is None else ExitReason(str(end["reason"]))

    return ProcessSpec("trainer", lambda: command, explain, stop_s=TRAINER_STOP_S, own_codes=True)


def node_processes(root: Path, ports: Ports, trainer_socket: Path, *isolation: str) -> list[ProcessSpec]:
    """Forwarder and SuperNode of the identity under ``root``, in the order in which they start.

    What they send to the server names these very processes, by a word that no file holds and no copy has.
    """
    folder, instance = run_folder_of(root) / "forwarder", secrets.token_hex(16)

    def forwarder() -> list[str]:
        folder.mkdir(parents=True, exist_ok=True)
        write_forwarder_conf(load_identity(root), folder, ports.forwarder, instance)
        return forwarder_command(folder)

    def supernode() -> list[str]:
        return supernode_command(load_identity(root), ports, trainer_socket, *isolation)

    def ahead_s() -> float:
        identity = load_identity(root)
        return clock_error_s(identity.host, identity.port)

    explain = with_server(lambda: standing_of(root, instance), with_clock(ahead_s))

    def ready() -> bool:
        return listens(ports.forwarder, _LOOK_S) and trainer_socket.exists()

    return [
        ProcessSpec("forwarder", forwarder, explain_end),
        ProcessSpec("supernode", supernode, explain, ready, helper=_SUPEREXEC),
    ]


def supernode_command(identity: Identity, ports: Ports, trainer_socket: Path, *isolation: str) -> list[str]:
    """The command line of Flower's SuperNode behind the forwarder; its shells find the trainer through node config."""
    return [
        *(sys.executable, "-m", "fl_client.board.supernode"),
        "--superlink", f"127.0.0.1:{ports.forwarder}",
        "--root-certificates", str(identity.loopback_certificate),
        "--auth-supernode-private-key", str(identity.node_key),
        "--host", "127.0.0.1",
        "--port", str(ports.supernode),
        "--node-config", f'{SOCKET_KEY}="{trainer_socket}"',
        *isolation,
    ]  # fmt: skip


def environment(root: Path) -> dict[str, str]:
    """The environment of a board's processes: Flower keeps its files under ``root`` and asks nobody outside."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    return {**os.environ, **_QUIET, "PATH": path, "FLWR_HOME": str(run_folder_of(root) / "flower")}


def run_board(home: DeviceHome, ports: Ports, python: str = sys.executable) -> None:
    """Keep a board up, all in one, until SIGTERM or SIGINT; then take everything down.

    Raises:
        PolicyError: the device has no ``policy.json`` and would train nothing.
        IdentityError: it is not enrolled, or under another name than its home says.
    """
    if not home.policy_file.is_file():
        raise PolicyError(f"{home.policy_file}: expected the device's own limits, found none; it would train nothing")
    enrolled = load_identity(home.folder).client_id
    if enrolled != home.device.client_id:
        raise IdentityError(f"device.yaml: expected client_id {enrolled!r}, as enrolled, got {home.device.client_id!r}")
    specs = [trainer_process(home, ports, python), *node_processes(home.folder, ports, home.socket)]
    keep_up(home.folder, ports, specs)


def run_node(root: Path, ports: Ports, trainer_socket: Path, secret: Path) -> None:
    """Keep forwarder and SuperNode up, where trainer and shells are services of other users.

    Args:
        root: folder of the identity.
        ports: where they listen on loopback.
        trainer_socket: what the shells are told.
        secret: file with the secret that ``flower-superexec`` must know to take a message.

    Raises:
        IdentityError: the device is not enrolled.
    """
    load_identity(root)
    isolation = ("--isolation", "process", "--superexec-auth-secret-file", str(secret))
    keep_up(root, ports, node_processes(root, ports, trainer_socket, *isolation))


def keep_up(root: Path, ports: Ports, specs: Sequence[ProcessSpec]) -> None:
    """Supervise ``specs`` and look after the identity until SIGTERM or SIGINT; then take everything down.

    What this process and those below it write, their user alone reads.

    Raises:
        ConfigError: another supervisor is at work in this home, or a port is taken by something else than what an
            earlier start of this board left behind.
        EndedForGoodError: a process ended for a reason that no further start mends.
    """
    os.umask(0o077)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    folder = run_folder_of(root)
    folder.mkdir(exist_ok=True)
    with folder_lock(folder, ConfigError(f"{root}: another fl-client is at work in this home; expected one")):
        environs = environment(root)
        supervisor = Supervisor(root, folder, specs, environs, first_wait_s=1.0, longest_wait_s=_LONGEST_WAIT_S)
        supervisor.end_leftovers()
        ports.refuse_taken()
        stale: SimpleQueue[str] = SimpleQueue()
        threading.Thread(target=look_after, args=(root, stop, stale.put), name="upkeep", daemon=True).start()
        try:
            while not stop.is_set():
                while not stale.empty():
                    supervisor.restart(stale.get())
                supervisor.step()
                stop.wait(_STEP_S)
            logger.info("stopping: a task that is at work may take %g s more", TASK_S)
        finally:
            supervisor.stop()
