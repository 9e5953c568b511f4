"""The processes that a server consists of: SuperLink, enrolment service and gateway, and the ports they need."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict

from fl_core.errors import ConfigError
from fl_core.process.ports import LOOPBACK, is_own_address, listens
from fl_core.process.supervise import ProcessSpec
from fl_server.deploy.home import SETTINGS_FILE, ServerHome
from fl_server.gateway.layout import GatewayFiles
from fl_server.gateway.nginx import GatewaySettings, nginx_command, write_nginx_conf
from fl_server.gateway.service import service_command


def superlink_process(home: ServerHome) -> ProcessSpec:
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


def server_processes(home: ServerHome) -> list[ProcessSpec]:
    """All processes of a server, in the order in which they start: each waits for those before it.

    Raises:
        IdentityError: the folder has no authority, or nginx is not installed.
    """
    settings = home.settings
    gateway = GatewaySettings(
        settings.gateway_port, settings.service_port, f"https://127.0.0.1:{settings.superlink_port}", settings.listen
    )
    write_nginx_conf(home.folder, gateway)
    enrolment = service_command(home.folder, settings.service_port)
    nginx = nginx_command(home.folder)

    def all_listen(*ports: int) -> Callable[[], bool]:
        return lambda: all(map(listens, ports))

    def gateway_listens() -> bool:
        return listens(settings.gateway_port, address=settings.listen)

    behind = (settings.superlink_port, settings.service_port)
    return [
        superlink_process(home),
        ProcessSpec(
            "enrolment",
            lambda: enrolment,
            may_start=all_listen(*behind[:1]),
            ready=all_listen(*behind[1:]),
            own_codes=True,
        ),
        ProcessSpec("gateway", lambda: nginx, may_start=all_listen(*behind), ready=gateway_listens),
    ]


def refuse_taken_ports(home: ServerHome) -> None:
    """Make sure that a server that is about to start can have its ports.

    Raises:
        ConfigError: something listens on one of them, or the machine lacks the gateway's address; the message names
            all of them.
    """
    settings, problems = home.settings, []
    if not is_own_address(settings.listen):
        problems.append(f"listen: expected an address of this machine, got {settings.listen}")
    for name, port in asdict(settings).items():
        address = settings.listen if name == "gateway_port" else LOOPBACK
        if name.endswith("_port") and listens(port, address=address):
            problems.append(f"{name}: expected a free port, something listens on {port} already")
    if problems:
        path = home.folder / SETTINGS_FILE
        raise ConfigError([f"{path}: {problem}" for problem in problems])
