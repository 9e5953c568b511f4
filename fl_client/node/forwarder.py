"""The forwarder on a board's loopback: it adds the client certificate that Flower's SuperNode cannot offer.

``flower-supernode --superlink 127.0.0.1:PORT --root-certificates loopback.pem`` talks to it and signs with its node
key; Flower refuses to sign without TLS, so the forwarder has a certificate of its own for loopback. It speaks TLS to
the gateway with the board's certificate and checks the server against the authority. It passes Fleet calls only,
names to the server this very run of the board, writes nothing to the board's flash, and reads a renewed certificate at
its next connection, without a reload. The server's name is looked up at the start: without a network the start may fail
and is tried again by whoever supervises it. For nginx 1.22.
"""

from __future__ import annotations

import os
import pwd
import string
from pathlib import Path

from fl_client.node.identity import Identity
from fl_client.node.keys import make_loopback_certificate
from fl_core.errors import IdentityError
from fl_core.files import write_secret
from fl_core.hostnames import bracketed, is_address
from fl_core.identity import FLEET_PATH, INSTANCE_HEADER
from fl_core.process.nginx import check_path, foreground_command, temporary_paths

_READ_TIMEOUT_S = 50
_EVERY_SERVERS_NAME = "localhost"
"""What nginx checks in place of an address, for it compares names alone.

Every server's certificate holds it, and the fleet's authority signs servers' certificates for one server.
"""
_TEMPLATE = Path(__file__).with_name("forwarder.conf").read_text(encoding="utf-8")


class _ConfTemplate(string.Template):
    """Text in which ``@name`` stands for a value, for nginx's own names begin with a dollar sign.

    It needs nothing that a board would hold in memory for it: the process that writes this file stays up.
    """

    delimiter = "@"


def write_forwarder_conf(identity: Identity, folder: Path, port: int, instance: str = "") -> Path:
    """Write ``folder``/nginx.conf for a forwarder on 127.0.0.1:``port``, and give its path.

    ``instance`` names this run of the board to the server, which so knows a copy of it that is alive, too.

    Raises:
        IdentityError: a path cannot stand in nginx's configuration, or the key belongs to a user without a name.
    """
    folder = folder.resolve()
    check_path(folder)
    check_path(identity.folder.resolve())
    make_loopback_certificate(identity.loopback_certificate, _loopback_key(identity))
    (folder / "unused").mkdir(parents=True, exist_ok=True)
    path = folder / "nginx.conf"
    write_secret(path, _configuration(identity, folder, port, instance).encode())
    return path


def forwarder_command(folder: Path) -> list[str]:
    """The command line that runs the forwarder of ``folder`` in the foreground; errors go to standard error.

    Raises:
        IdentityError: nginx is not installed.
    """
    return foreground_command(folder.resolve() / "nginx.conf", "board")


def _configuration(identity: Identity, folder: Path, port: int, instance: str) -> str:
    """The text of ``forwarder.conf`` for this board.

    nginx reads certificate and key through variables at each handshake, so that a renewal needs no reload.
    """
    host = bracketed(identity.host)
    return _ConfTemplate(_TEMPLATE).substitute(
        owner=_owner_line(identity),
        pid=folder / "nginx.pid",
        temporary_paths=temporary_paths(folder / "unused"),
        device_certificate=identity.certificate.resolve(),
        device_key=Path(identity.keys.nginx_name).resolve(),
        gateway=f"{host}:{identity.port}",
        port=port,
        loopback_certificate=identity.loopback_certificate.resolve(),
        loopback_key=_loopback_key(identity).resolve(),
        fleet=FLEET_PATH,
        instance_header=INSTANCE_HEADER,
        instance=instance,
        host=host,
        authority=identity.ca.resolve(),
        server_name=_EVERY_SERVERS_NAME if is_address(identity.host) else identity.host,
        timeout_s=_READ_TIMEOUT_S,
    )


def _loopback_key(identity: Identity) -> Path:
    return identity.loopback_certificate.with_suffix(".key")


def _owner_line(identity: Identity) -> str:
    """The line that lets nginx, where root starts it, work as the user who may use the key.

    Raises:
        IdentityError: that user has no name, which nginx asks for.
    """
    if os.geteuid() != 0:
        return ""
    uid = identity.keys.owner_uid
    try:
        return f"user {pwd.getpwuid(uid).pw_name};"
    except KeyError:
        raise IdentityError(
            f"{identity.keys.nginx_name}: belongs to user {uid}, who has no entry in passwd; run as that user, or give "
            "the key to one who has"
        ) from None
