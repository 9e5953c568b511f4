"""nginx's configuration: the one door between boards and the SuperLink.

It ends TLS, asks for client certificates, and passes exactly the calls that a SuperNode makes under ``/v1/fleet/``;
the path that goes upstream is written here, never taken from the request. Each request is authorised anew by the
enrolment service, so a revoked device is out at its next one, on an open connection too. Bodies are bounded, read
whole before the SuperLink sees them, and may have no content encoding. Everything else is refused. For nginx 1.22.
"""

from __future__ import annotations

import os
import pwd
import signal
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from fl_core.errors import IdentityError
from fl_core.files import write_secret
from fl_core.hostnames import bracketed
from fl_core.identity import INSTANCE_HEADER, RELEASE_HEADER
from fl_core.process.nginx import check_path, foreground_command, temporary_paths
from fl_server.gateway import service
from fl_server.gateway.layout import GatewayFiles, checked_root, service_secret
from fl_server.gateway.routes import RATE_LIMITS, ROUTES

MAX_BODY_BYTES = 64 * 1024 * 1024
IN_MEMORY_BYTES = 1024 * 1024
CUT_OFF_S = 45
"""After a reload, and after so long on one connection, connections end; shorter than the 60 s a revocation may take."""

SLOTS = 4096
"""Connections that nginx holds, those to the SuperLink and the service among them."""
REQUESTS_OF_ADDRESS = SLOTS // 4
"""Requests that one address may have open at once: many devices may stand behind it, and others find room beside them.

An idle connection has none, and nginx closes idle ones when it runs out.
"""
REQUESTS_OF_DEVICE = 32
"""What a board's forwarder can have open; its SuperNode has four: two parts of a message, a question, a heartbeat."""

_TEMPLATE = Path(__file__).with_name("nginx.conf.j2").read_text(encoding="utf-8")
"""Read with the code, for the user whom a gateway runs as later may not reach it."""
_WORKER_USER = "www-data"  # Debian's, where nginx is started by root


@dataclass(frozen=True)
class GatewaySettings:
    """Where the gateway listens and what lies behind it.

    ``superlink`` is a URL of loopback, such as https://127.0.0.1:8000; with https its certificate is checked against
    the authority of the same folder.
    """

    port: int
    service_port: int
    superlink: str
    listen: str = "0.0.0.0"
    max_body_bytes: int = MAX_BODY_BYTES
    requests_of_address: int = REQUESTS_OF_ADDRESS


def write_nginx_conf(root: Path, settings: GatewaySettings) -> Path:
    """Write ``root``/gateway/nginx.conf, and give its path; an nginx that runs keeps its old one until a reload.

    Raises:
        IdentityError: ``root`` has no authority, or a path in it cannot stand in nginx's configuration.
    """
    files = checked_root(root.resolve())
    check_path(files.root)
    write_secret(files.nginx_conf, _configuration(files, settings).encode())
    return files.nginx_conf


def nginx_command(root: Path) -> list[str]:
    """The command line that runs the gateway of ``root`` in the foreground; errors go to standard error.

    Raises:
        IdentityError: nginx is not installed.
    """
    return foreground_command(GatewayFiles(root.resolve()).nginx_conf, "machine")


def reload_nginx(root: Path) -> bool:
    """Let the running gateway read its files again and end all connections within ``CUT_OFF_S``; False if none runs.

    Raises:
        IdentityError: it belongs to another user.
    """
    files = GatewayFiles(root.resolve())
    try:
        pid = int(files.nginx_pid.read_text(encoding="ascii"))
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False
    if str(files.nginx_conf).encode() not in command:  # a number that another process has by now
        return False
    try:
        os.kill(pid, signal.SIGHUP)
    except PermissionError:
        raise IdentityError(f"nginx {pid}: it runs as another user; reload it as that user") from None
    return True


def _configuration(files: GatewayFiles, settings: GatewaySettings) -> str:
    """The text of ``nginx.conf.j2`` for these settings; the locations come from the table of routes."""
    template = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    ).from_string(_TEMPLATE)
    scheme, _, superlink = settings.superlink.partition("://")
    trust = f"proxy_ssl_verify on; proxy_ssl_trusted_certificate {files.ca_certificate}; proxy_ssl_name localhost;"
    return template.render(
        files=files,
        settings=settings,
        listen=f"{bracketed(settings.listen)}:{settings.port}",
        both_kinds=" ipv6only=off" if settings.listen == "::" else "",
        routes=ROUTES,
        rates=RATE_LIMITS,
        superlink=superlink,
        upstreams={"superlink": f"{scheme}://superlink", "service": "http://service"},
        trust=trust if scheme == "https" else "",
        secret=service_secret(files),
        headers={
            "secret": service.SECRET_HEADER,
            "certificate": service.CERTIFICATE_HEADER,
            "node_key": service.NODE_KEY_HEADER,
            "release": RELEASE_HEADER,
            "instance": INSTANCE_HEADER,
        },
        auth_path=service.AUTH_PATH,
        max_body_bytes=settings.max_body_bytes,
        in_memory_bytes=IN_MEMORY_BYTES,
        cut_off_s=CUT_OFF_S,
        slots=SLOTS,
        requests_of_device=REQUESTS_OF_DEVICE,
        owner=_owner_line(),
        temporary_paths=_temporary_paths(files),
    )


def _owner_line() -> str:
    """The line that lets nginx, where root starts it, read its keys as root and work as an unprivileged user."""
    if os.geteuid() != 0:
        return ""
    try:
        pwd.getpwnam(_WORKER_USER)
    except KeyError:
        return ""
    return f"user {_WORKER_USER};"


def _temporary_paths(files: GatewayFiles) -> str:
    """Lines for the folders of nginx; where root starts it, it has its own, which its unprivileged workers reach."""
    if os.geteuid() == 0:
        return ""
    folder = files.nginx_conf.parent / "bodies"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return temporary_paths(folder)
