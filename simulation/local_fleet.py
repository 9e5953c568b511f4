"""A whole federation of real processes on this machine: ``python -m simulation.local_fleet``, or ``make federation``.

Server, gateway and devices are started by the same commands that their users type, talk TLS with certificates of
their own, train on real people's data, and are all gone at the end, after a failure and after Ctrl-C too.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from fl_core.errors import RoundError, RunFolderError
from fl_core.privacy.policy import DevicePolicy
from fl_core.process.command import errors_as_lines
from fl_core.process.processes import RunningProcess, end, processes_of
from fl_core.process.table import leaders_of

UP_S, DEVICES_S, STOP_S = 90.0, 180.0, 90.0
MARK = "federation.json"
"""File that says that a folder holds a federation of this command, which the next one may delete."""


@dataclass(frozen=True)
class LocalFleet:
    """One federation of real processes: its folder, its config and the people whose devices take part."""

    folder: Path
    config: Path
    people: Sequence[str]
    overrides: Sequence[str]
    device: Mapping[str, Any] = field(default_factory=lambda: {"data": {"name": "smartwatch"}})
    """What every ``device.yaml`` says besides the client_id."""
    flags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By person, words that follow their ``fl-client run``."""

    @property
    def server(self) -> Path:
        """The folder of the server."""
        return self.folder / "server"

    def home(self, person: str) -> Path:
        """The folder of one person's device."""
        return self.folder / person


class Live:
    """A federation whose processes are up. Each command can be started again, as systemd does, when it was killed."""

    def __init__(self, federation: LocalFleet, everything: ExitStack) -> None:
        self.federation = federation
        self._everything = everything
        ports = iter(free_ports(4 + 3 * len(federation.people)))
        self._server_ports = [str(next(ports)) for _ in range(4)]
        self._board_ports = {person: [str(next(ports)) for _ in range(3)] for person in federation.people}
        self.up_pid = 0
        """Process id of ``fl-server up``; 0 before it was started."""
        self.boards: dict[str, psutil.Popen] = {}

    @property
    def url(self) -> str:
        """The address at which a board enrols."""
        return f"https://localhost:{self.gateway_port}"

    @property
    def gateway_port(self) -> int:
        """The port at which devices reach the server."""
        return int(self._server_ports[0])

    def forwarder_port(self, person: str) -> int:
        """The port at which a board's SuperNode reaches its forwarder."""
        return int(self._board_ports[person][0])

    def make_server(self) -> None:
        """Make the server's folder, with a free port for each of its processes."""
        gateway, *loopback = self._server_ports
        _call("fl-server", "init", self.federation.server, "--gateway-port", gateway, "--loopback-ports", *loopback)

    def start_server(self) -> None:
        """Start ``fl-server up``, and wait until everything below it is up."""
        server, log = self.federation.server, self.federation.folder / "server.log"
        self.up_pid = self._start(log, "fl-server", "up", server).pid
        _wait(lambda: _health(server), UP_S, "the server", log)

    def start_board(self, person: str, before: Sequence[str] = (), flags: Sequence[str] = ()) -> None:
        """``fl-client run``; ``before`` stands before the command, ``flags`` after the person's own."""
        ports = [word for pair in zip(_PORTS, self._board_ports[person], strict=True) for word in pair]
        own = self.federation.flags.get(person, ())
        words = ("fl-client", "run", "--home", self.federation.home(person), *ports, *own, *flags)
        self.boards[person] = self._start(self.board_log(person), *words, before=before)

    def board_log(self, person: str) -> Path:
        """The file that holds what a board's supervisor says."""
        return self.federation.folder / f"{person}.log"

    def stop_board(self, person: str) -> None:
        """End a board by SIGTERM, and wait until its processes are gone."""
        _end(self.boards.pop(person))

    def _start(self, log: Path, *words: object, before: Sequence[str] = ()) -> psutil.Popen:
        """A command that stays, in a session of its own, so that Ctrl-C reaches this process alone."""
        with log.open("ab") as file:
            process = psutil.Popen([*before, *_command(*words)], stdout=file, stderr=file, start_new_session=True)
        self._everything.callback(_end, process)
        return process


@contextmanager
def federation_up(federation: LocalFleet, say: Callable[[str], None]) -> Iterator[Live]:
    """Server, gateway and enrolled devices, all connected, and all gone at the end, whatever was killed by then.

    Raises:
        RunFolderError: the folder holds something else.
        RoundError: something does not come up; its last words are in the message, its log in the folder.
    """
    _make_room(federation.folder)
    with ExitStack() as everything:
        everything.callback(_end_leftovers, federation)
        live = Live(federation, everything)
        live.make_server()
        live.start_server()
        say(f"server and gateway are up on {live.url}")
        for person in federation.people:
            _enrol(federation, person, live.url)
            live.start_board(person)
        say(f"enrolled {', '.join(federation.people)}: a key and a certificate each")
        everyone = len(federation.people)
        _wait(
            lambda: len(_seen(federation.server)) == everyone, DEVICES_S, "the devices",
            live.board_log(federation.people[0]),
        )  # fmt: skip
        say("all devices are connected")
        yield live


def run_federation(federation: LocalFleet, say: Callable[[str], None]) -> Path:
    """Bring everything up, run the config, take everything down; gives the run folder.

    Raises:
        RunFolderError: the folder holds something else.
        RoundError: a command failed; its last words are in the message, its log in the folder.
    """
    with federation_up(federation, say):
        _call("fl-server", "run", federation.config, *federation.overrides, "--server", federation.server, quiet=False)
        say("taking everything down")
    return next(path.parent for path in (federation.server / "runs").glob("*/summary.json"))


def processes_of_server(federation: LocalFleet) -> list[RunningProcess]:
    """What runs below ``fl-server up``, or was left behind by one that was killed."""
    return processes_of(federation.server, leaders_of(federation.server / "logs"))


def processes_of_board(federation: LocalFleet, person: str) -> list[RunningProcess]:
    """What runs below a person's ``fl-client run``, or was left behind by one that was killed."""
    home = federation.home(person)
    return processes_of(home, leaders_of(home / "run"))


_PORTS = ("--forwarder-port", "--supernode-port", "--metrics-port")


def _enrol(federation: LocalFleet, person: str, url: str) -> None:
    token = _call("fl-server", "token", "create", federation.server, "--client", person, "--auto-approve").strip()
    home = federation.home(person)
    _call("fl-client", "enrol", url, token, "--home", home)
    (home / "device.yaml").write_text(yaml.safe_dump({"client_id": person, **federation.device}))
    DevicePolicy(epsilon_cap=8.0, delta=1e-5, max_clip_norm=1.0, min_noise_multiplier=0.5, max_sample_rate=1.0).save(
        home / "policy.json"
    )


def _end_leftovers(federation: LocalFleet) -> None:
    found = processes_of_server(federation)
    for person in federation.people:
        found += processes_of_board(federation, person)
    end(each.pid for each in found)


def _call(*words: object, quiet: bool = True) -> str:
    """One command to its end; what it prints."""
    command = _command(*words)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE if quiet else None, text=True)
    if done.returncode != 0:
        said = f": {done.stderr.strip()[-500:]}" if quiet else ""
        raise RoundError(f"{' '.join(map(str, words[:2]))} ended with {done.returncode}{said}")
    return done.stdout


def _command(*words: object) -> list[str]:
    module = {"fl-server": "fl_server.cli", "fl-client": "fl_client.cli"}[str(words[0])]
    return [sys.executable, "-m", module, *map(str, words[1:])]


def _end(process: psutil.Popen) -> None:
    """Ask a command to take down what it started; kill what is left after that."""
    family: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        family = process.children(recursive=True)
        process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs([process, *family], timeout=STOP_S)
    for each in alive:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(alive, timeout=STOP_S)


def _wait(ready: Callable[[], bool], limit_s: float, what: str, log: Path) -> None:
    ends = time.monotonic() + limit_s
    while not ready():
        if time.monotonic() > ends:
            said = log.read_text(errors="replace")[-500:] if log.is_file() else ""
            raise RoundError(f"{what}: expected to be up within {limit_s:g} s; {log}: {said}")
        time.sleep(0.5)


def _health(server: Path) -> bool:
    status = json.loads(_call("fl-server", "status", server, "--json"))
    return bool(status["processes"]) and all(process["ready"] for process in status["processes"].values())


def _seen(server: Path) -> list[str]:
    devices = json.loads(_call("fl-server", "devices", "list", server, "--json"))["devices"]
    return [device["client_id"] for device in devices if device["last_seen"]]


def _make_room(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).is_file():
            raise RunFolderError(f"{folder}: expected nothing, or a federation of this command; it is left alone")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).write_text("{}\n")


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on just now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def main() -> None:
    """Run ``python -m simulation.local_fleet``: read its arguments, run the federation, print the run folder."""
    parser = argparse.ArgumentParser(prog="python -m simulation.local_fleet", description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("configs/fleet.yaml"))
    parser.add_argument("--people", type=int, default=3, help="devices, one a person (1 to 8)")
    parser.add_argument("--folder", type=Path, default=Path("runs/federation"))
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    people = [f"person-{number:02d}" for number in (1, 2, 3, 4, 5, 6, 7, 10)[: given.people]]
    with errors_as_lines("interrupted; everything was taken down"):
        run_dir = run_federation(
            LocalFleet(given.folder.resolve(), given.config, people, given.overrides),
            lambda line: print(line, file=sys.stderr),
        )
        print(run_dir)


if __name__ == "__main__":
    main()
