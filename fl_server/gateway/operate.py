"""What an operator does with devices, as functions over a server's folder: tokens, approval, revocation, node keys.

The commands and the supervisor of the SuperLink call these; each opens the registry for a moment. A SuperLink knows
the keys of ``approved_keys`` and must forget those of ``retired_keys``; the gateway refuses the latter by itself.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from fl_core.identity import EnrolmentToken
from fl_server.gateway.authority import Authority
from fl_server.gateway.devices import DeviceRegistry, DeviceStatus, EnrolledDevice
from fl_server.gateway.doubles import Double, read_doubles
from fl_server.gateway.layout import GatewayFiles, checked_root
from fl_server.gateway.nginx import reload_nginx

TOKEN_HOURS = 24.0


@dataclass(frozen=True)
class NodeKey:
    """The public key (SubjectPublicKeyInfo, PEM) with which a device's SuperNode signs."""

    client_id: str
    pem: bytes


def create_token(
    root: Path,
    *,
    client_id: str | None = None,
    auto_approve: bool = False,
    hours: float = TOKEN_HOURS,
    now_s: float | None = None,
) -> str:
    """A new one-time token that holds for ``hours``; the name is a UUID unless ``client_id`` is given.

    Raises:
        IdentityError: no authority under ``root``, or a name that cannot be one.
    """
    files = checked_root(root)
    token = EnrolmentToken(secrets.token_bytes(32), Authority(files).fingerprint)
    begins_s = time.time() if now_s is None else now_s
    with DeviceRegistry(files.devices) as registry:
        registry.add_token(token.secret, begins_s + 3600 * hours, client_id, auto_approve)
    return token.text()


def list_devices(root: Path) -> list[EnrolledDevice]:
    """All devices of a server, by name.

    Raises:
        IdentityError: no authority under ``root``.
    """
    with _registry(root) as registry:
        return registry.devices()


def count_devices(root: Path) -> dict[DeviceStatus, int]:
    """How many devices of a server are approved, pending and revoked; a registry that is not there yet is not made.

    Raises:
        IdentityError: no authority under ``root``.
    """
    devices = list_devices(root) if checked_root(root).devices.exists() else []
    counts = Counter(device.status for device in devices)
    return {status: counts[status] for status in get_args(DeviceStatus)}


def identities_used_twice(root: Path) -> list[Double]:
    """The identities that two boards have used since they were enrolled; revoked ones are no matter any more.

    Raises:
        IdentityError: no authority under ``root``.
    """
    found = read_doubles(checked_root(root).doubles)
    if not found:
        return []
    return [found[each.node_key] for each in list_devices(root) if each.status != "revoked" and each.node_key in found]


def approve_device(root: Path, client_id: str) -> EnrolledDevice:
    """Let a waiting device in.

    Raises:
        IdentityError: unknown or revoked.
    """
    with _registry(root) as registry:
        return registry.approve(client_id)


def revoke_device(root: Path, client_id: str) -> EnrolledDevice:
    """Lock a device out: its next request is refused, and what it has open is cut off by a reload of the gateway.

    Raises:
        IdentityError: unknown, or the gateway runs as another user (the device is locked out all the same).
    """
    with _registry(root) as registry:
        device = registry.revoke(client_id)
    reload_nginx(root)
    return device


def approved_keys(root: Path) -> list[NodeKey]:
    """Node keys that the SuperLink has to know.

    Raises:
        IdentityError: no authority under ``root``.
    """
    return [
        NodeKey(device.client_id, device.node_key.encode())
        for device in list_devices(root)
        if device.status == "approved"
    ]


def retired_keys(root: Path) -> list[NodeKey]:
    """Node keys that the SuperLink has to forget: of revoked devices and of enrolments that a later one replaced.

    Raises:
        IdentityError: no authority under ``root``.
    """
    with _registry(root) as registry:
        return [NodeKey(client_id, key.encode()) for client_id, key in registry.retired_node_keys()]


@contextmanager
def _registry(root: Path) -> Iterator[DeviceRegistry]:
    files: GatewayFiles = checked_root(root)
    with DeviceRegistry(files.devices) as registry:
        yield registry
