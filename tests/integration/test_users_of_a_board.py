"""A board whose three parts run as three users, by the command lines of its systemd units, takes part in real rounds;
and the user that runs what a server sends reaches the trainer's socket and nothing else of the board."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import yaml

from fl_client.board import services as service
from fl_client.board.services import Installation, units
from fl_core.process.processes import end, processes_of
from simulation.local_fleet import Live, LocalFleet, free_ports
from support.boards import POLICY
from support.fleet import eventually
from support.gateway import needs_nginx

CLIENT = "person-01"
USERS = {"stonecrop-trainer.service": 64101, "stonecrop-node.service": 64102, "stonecrop-app.service": 64103}
TRAINER, NODE, APP = USERS.values()
ROOT = Path(__file__).resolve().parents[2]


def runs_for_others() -> bool:
    """Whether this process may become another user, and that user may use this Python."""
    if os.geteuid() != 0:
        return False
    try:
        return subprocess.run([sys.executable, "-c", "import flwr, fl_client"], user=APP, cwd="/").returncode == 0
    except OSError:
        return False


pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("real processes"), needs_nginx]


class Board:
    """Folders of a board as its units lay them out, under a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home, self.node_home, self.run = folder / "trainer", folder / "node", folder / "run"
        self.socket, self.secret = self.run / "trainer.sock", folder / "superexec.secret"
        self.forwarder_port, self.supernode_port, self.metrics_port = free_ports(3)
        self.secret.write_text("a secret of both\n")
        for path, mode, user in (
            (self.home, 0o700, TRAINER),
            (self.node_home, 0o700, NODE),
            (self.run, 0o751, TRAINER),
            (folder / "app", 0o700, APP),
        ):
            path.mkdir()
            path.chmod(mode)
            os.chown(path, user, APP if path == self.run else user)

    def command(self, unit: str) -> list[str]:
        """What the unit starts, with this board's paths and ports."""
        where = Installation(self.home, self.node_home, Path(sys.executable), self.metrics_port, self.supernode_port)
        text = units(where)[unit].replace(str(service.SOCKET), str(self.socket))
        line = re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)
        assert line is not None
        words = shlex.split(line[1].replace("${CREDENTIALS_DIRECTORY}/superexec", str(self._credential(unit))))
        if unit == "stonecrop-node.service":
            words += ["--forwarder-port", str(self.forwarder_port), "--supernode-port", str(self.supernode_port)]
        return words

    def _credential(self, unit: str) -> Path:
        """The secret as systemd hands it to a service: a file of its user's own."""
        path = self.folder / f"{unit}.secret"
        path.write_bytes(self.secret.read_bytes())
        path.chmod(0o400)
        os.chown(path, USERS[unit], USERS[unit])
        return path

    def give(self, path: Path, user: int) -> None:
        """Let a file belong to a user, and nobody else read it."""
        path.chmod(0o600)
        os.chown(path, user, user)


@contextmanager
def as_user(board: Board, unit: str, environment: Mapping[str, str]) -> Iterator[psutil.Popen]:
    """A service's process, with its unit's user and group."""
    group = APP if unit == "stonecrop-trainer.service" else USERS[unit]
    log = board.folder / f"{unit}.log"
    with log.open("wb") as file:
        process = psutil.Popen(
            board.command(unit),
            user=USERS[unit], group=group, extra_groups=[], umask=0o077, cwd="/", env=dict(environment),
            stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        family = [*process.children(recursive=True), process]
        process.terminate()
        psutil.wait_procs(family, timeout=30)
        end(each.pid for each in family if each.is_running())


def words_of(user: int, code: str, *paths: Path) -> str:
    """What a program prints that a user runs, in the groups that the user's unit gives it."""
    command = [sys.executable, "-c", code, *map(str, paths)]
    done = subprocess.run(
        command, user=user, group=user, extra_groups=[], cwd="/", capture_output=True, text=True, timeout=60
    )
    return done.stdout + done.stderr


READS = """
import sys
from pathlib import Path
for name in sys.argv[1:]:
    try:
        print("read", name, len(Path(name).read_bytes()))
    except PermissionError:
        pass
"""
ASKS = """
import sys
from pathlib import Path
from fl_client.shell.socket_trainer import SocketTrainer
from fl_core.questions import INFO
from fl_core.records import decode_info
print(decode_info(SocketTrainer(Path(sys.argv[1]), patience_s=3).ask(INFO, ()), "trainer").client_id)
"""


def test_three_users_take_part_and_the_shells_user_reaches_the_socket_alone() -> None:
    if not runs_for_others():
        pytest.skip("needs root, and a Python that other users can reach")
    with tempfile.TemporaryDirectory(prefix="users-") as name, ExitStack() as everything:
        folder = Path(name)
        folder.chmod(0o711)
        federation = LocalFleet(folder / "federation", ROOT / "configs" / "fleet.yaml", (), ())
        federation.folder.mkdir()
        everything.callback(lambda: end(each.pid for each in processes_of(federation.server)))
        live = Live(federation, everything)
        live.make_server()
        live.start_server()
        board = Board(folder)
        _enrol(live, board)
        base = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "OMP_NUM_THREADS": "1", "HOME": "/nonexistent"}
        shell = base | {"FLWR_HOME": str(folder / "app"), "HOME": str(folder / "app"), "PATH": _path_of_shells()}
        everything.enter_context(as_user(board, "stonecrop-trainer.service", base))
        eventually(board.socket.exists, 60, "the trainer's socket")
        everything.enter_context(as_user(board, "stonecrop-node.service", base))
        superexec = everything.enter_context(as_user(board, "stonecrop-app.service", shell))

        users: set[int] = set()
        overrides = ("run.rounds=2", "round.min_clients=1", "--server", str(federation.server))
        run = psutil.Popen([sys.executable, "-m", "fl_server.cli", "run", str(federation.config), *overrides])
        everything.callback(end, [run.pid])
        ends = time.monotonic() + 240
        while run.poll() is None and time.monotonic() < ends:
            with suppress(psutil.NoSuchProcess):
                users |= {process.uids().effective for process in superexec.children(recursive=True)}
            time.sleep(0.02)
        assert run.poll() == 0, "\n".join(path.read_text(errors="replace") for path in folder.glob("*.log"))
        (summary,) = (federation.server / "runs").glob("*/summary.json")
        assert json.loads(summary.read_text())["rounds_done"] == 2
        assert users == {APP}, "what a server sends runs as the shells' user"

        own = [path for root in (board.home, board.node_home) for path in root.rglob("*") if path.is_file()]
        names = {path.name for path in own}
        assert {"ledger.sqlite", "policy.json", "device.yaml", "node.key"} <= names
        others = [board.folder / f"{unit}.secret" for unit in USERS if unit != "stonecrop-app.service"]
        assert words_of(APP, READS, *own, *(path for path in others if path.exists())) == ""
        assert words_of(APP, ASKS, board.socket).strip() == CLIENT
        in_trainer = [path for path in own if path.is_relative_to(board.home)]
        assert words_of(NODE, READS, *in_trainer) == ""
        assert "TrainerError" in words_of(NODE, ASKS, board.socket)


def _enrol(live: Live, board: Board) -> None:
    """Enrolled by the user that keeps the keys; data and policy belong to the trainer's."""
    command = [sys.executable, "-m", "fl_server.cli", "token", "create", str(live.federation.server)]
    token = subprocess.run(
        [*command, "--client", CLIENT, "--auto-approve"], capture_output=True, text=True, check=True
    ).stdout.strip()
    enrol = [sys.executable, "-m", "fl_client.cli", "enrol", live.url, token, "--home", str(board.node_home)]
    subprocess.run(enrol, user=NODE, group=NODE, extra_groups=[], cwd="/", check=True)
    (board.home / "device.yaml").write_text(yaml.safe_dump({"client_id": CLIENT, "data": {"name": "smartwatch"}}))
    POLICY.save(board.home / "policy.json")
    for name in ("device.yaml", "policy.json"):
        board.give(board.home / name, TRAINER)


def _path_of_shells() -> str:
    return os.pathsep.join((str(Path(sys.executable).parent), "/usr/bin", "/bin"))
