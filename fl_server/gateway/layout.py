"""Where the gateway's files lie under the folder of a server, and which of them are secret.

``DIR/ca`` holds the authority, ``DIR/gateway`` everything that nginx and the enrolment service read. Private keys
and secrets are readable by their owner alone.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from fl_core.errors import IdentityError
from fl_core.files import write_secret


@dataclass(frozen=True)
class GatewayFiles:
    """Paths under a server's folder ``root``."""

    root: Path

    @property
    def ca_key(self) -> Path:
        """Private key of the authority."""
        return self.root / "ca" / "ca.key"

    @property
    def ca_certificate(self) -> Path:
        """The authority's certificate, which every board gets."""
        return self.root / "ca" / "ca.pem"

    @property
    def server_key(self) -> Path:
        """Private key of gateway and SuperLink."""
        return self.root / "gateway" / "server.key"

    @property
    def server_certificate(self) -> Path:
        """Certificate of gateway and SuperLink."""
        return self.root / "gateway" / "server.pem"

    @property
    def devices(self) -> Path:
        """The registry of devices."""
        return self.root / "gateway" / "devices.sqlite"

    @property
    def releases(self) -> Path:
        """The release that each device was last heard to hold."""
        return self.root / "gateway" / "releases.json"

    @property
    def doubles(self) -> Path:
        """Which identities two boards have used."""
        return self.root / "gateway" / "doubles.json"

    @property
    def secret(self) -> Path:
        """What nginx shows to the enrolment service, so that no other process of the machine speaks for it."""
        return self.root / "gateway" / "service.secret"

    @property
    def nginx_conf(self) -> Path:
        """The configuration that ``write_nginx_conf`` makes."""
        return self.root / "gateway" / "nginx.conf"

    @property
    def nginx_pid(self) -> Path:
        """Process id of nginx's master."""
        return self.root / "gateway" / "nginx.pid"


def service_secret(files: GatewayFiles) -> str:
    """The secret between nginx and the service; made at the first call."""
    if not files.secret.exists():
        write_secret(files.secret, secrets.token_hex(32).encode())
    return files.secret.read_bytes().decode("ascii").strip()


def checked_root(root: Path) -> GatewayFiles:
    """Files of a server's folder that ``init_authority`` has made.

    Raises:
        IdentityError: there is no authority in it.
    """
    files = GatewayFiles(root)
    if not files.ca_certificate.is_file():
        raise IdentityError(f"{root}: expected a server's folder with ca/ca.pem; make one: fl-server init {root}")
    return files
