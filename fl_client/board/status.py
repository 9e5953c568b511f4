"""What runs on a board now: its trainer, its processes with their memory, and its services where it runs as such.

Whoever asks may see less than everything: another user's home, socket or memory. Then the rest is shown, for looking
at a board must work best when something is wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fl_client.board.privacy_account import NO_EPSILON
from fl_client.board.services import SOCKET, Installation
from fl_client.board.systemd import Unit, installed_units, processes_of_unit
from fl_client.home import DeviceHome, open_home, run_folder_of
from fl_client.shell.socket_trainer import SocketTrainer
from fl_client.standing import kept_standing
from fl_core.errors import FINAL_CODES, ConfigError, PolicyError, TrainerError
from fl_core.privacy.policy import DevicePolicy
from fl_core.process.processes import processes_of, pss_bytes
from fl_core.process.table import end_of, running_processes, troubles

_TIMEOUT_S = 1.0


def status_of_board(folder: Path, service_socket: Path = SOCKET) -> dict[str, Any]:
    """{client_id, trainer, processes, services, troubles, pss_bytes}; null where the asker may not see it or nothing is
    there.

    ``troubles`` are lines: why something does not run, why the server has no use for the board, and whether another
    one has the same identity.

    Args:
        folder: the home.
        service_socket: where the trainer listens when it is a service of the system.

    Raises:
        ConfigError: the folder is no home that can be read, and no service is installed either.
    """
    units = installed_units()
    home: DeviceHome | None = None
    try:
        home = open_home(folder)
    except ConfigError:
        if not units:
            raise
    found = [] if home is None else processes_of(home.folder, running_processes(home.run_folder))
    known = {process.pid for process in found}
    for unit in units:
        found += [process for process in processes_of_unit(unit) if process.pid not in known]
    processes = [
        {
            "pid": process.pid,
            "part": process.spec_name,
            "name": process.name,
            "pss_bytes": pss_bytes([process.pid]),
        }
        for process in found
    ]
    sockets = [*([] if home is None else [home.socket]), *([service_socket] if units else [])]
    return {
        "client_id": None if home is None else home.device.client_id,
        "trainer": next(filter(None, map(_ask, sockets)), None),
        "processes": processes,
        "services": [{"name": unit.name, "state": unit.state, "restarts": unit.restarts} for unit in units],
        "troubles": list(_troubles(home, units)),
        "pss_bytes": sum(process["pss_bytes"] for process in processes),
    }


def in_words(status: Mapping[str, Any]) -> Iterator[str]:
    """The status for a person, line by line."""
    trainer = status["trainer"]
    yield "trainer: does not answer" if trainer is None else _trainer_words(trainer)
    yield from status["troubles"]
    for service in status["services"]:
        yield f"{service['name']}: {service['state']}, {service['restarts']} restarts"
    for process in status["processes"]:
        size, part = f"{process['pss_bytes'] / 1e6:7.1f} MB", process["part"] or "-"
        yield f"{process['pid']:>8}  {size}  {part:17} {process['name']}"
    yield f"memory: {status['pss_bytes'] / 1e6:.1f} MB in all (summed PSS)"
    if status["processes"] and any(process["pss_bytes"] == 0 for process in status["processes"]):
        yield "The memory of other users' processes is seen with sudo alone."


def _troubles(home: DeviceHome | None, units: Sequence[Unit]) -> Iterator[str]:
    """Lines on what is wrong, of the home and of the folders of the services."""
    where = Installation()
    if home is not None and home.policy_file.exists():
        try:
            DevicePolicy.load(home.policy_file)
        except PolicyError as error:
            yield f"trains nothing: {error}"
    roots = [*([] if home is None else [home.folder]), *((where.home, where.node_home) if units else ())]
    for root in dict.fromkeys(roots):
        folder = run_folder_of(root)
        for name, words in troubles(folder).items():
            yield f"{name}: does not run now: {words}"
        ended = end_of(folder)
        if ended is not None:
            at = datetime.fromtimestamp(ended["time"], timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
            how = "ended for good" if ended["exit_code"] in FINAL_CODES else "ended"
            yield f"{how} at {at} with exit code {ended['exit_code']}: {ended['reason']}"
        yield from kept_standing(root).lines()


def _ask(socket: Path) -> dict[str, Any] | None:
    with suppress(TrainerError, OSError):
        if socket.exists():
            return dict(SocketTrainer(socket, patience_s=_TIMEOUT_S).status())
    return None


def _trainer_words(trainer: Mapping[str, Any]) -> str:
    privacy = trainer["privacy"]
    spent = NO_EPSILON.lower()
    if privacy["epsilon"] is not None:
        spent = f"epsilon {privacy['epsilon']:.2f} of {privacy['cap']:g}"
    return (
        f"trainer: up {trainer['uptime_s']:.0f} s, {trainer['starts'] - 1} restarts, {trainer['tasks']} tasks, last "
        f"round {trainer['last_round']}, {spent}"
    )
