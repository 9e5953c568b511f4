"""Which enrolled devices take no part, and why: not approved yet, a certificate that has ended, another release.

It is read from the registry of devices and from what they said of their release, at the moment of the question.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime, timezone
from pathlib import Path

from fl_core import __version__
from fl_core.identity import other_release
from fl_server.gateway.devices import EnrolledDevice
from fl_server.gateway.layout import GatewayFiles
from fl_server.gateway.operate import list_devices
from fl_server.gateway.releases import read_releases


def devices_waiting(root: Path, now_s: float) -> dict[str, str]:
    """Why each device that was let in, or wants to be, takes no part now; by client_id, and none that is revoked.

    Raises:
        IdentityError: the server's folder ``root`` has no authority.
    """
    files = GatewayFiles(root)
    releases = read_releases(files.releases)
    try:
        known = list_devices(root) if files.devices.exists() else []
    except (OSError, sqlite3.Error):  # on a full disk the rest is told all the same
        return {}
    found = {device.client_id: _why(root, device, releases.get(device.client_id), now_s) for device in known}
    return {client_id: reason for client_id, reason in found.items() if reason is not None}


def _why(root: Path, device: EnrolledDevice, release: str | None, now_s: float) -> str | None:
    if device.status == "revoked":
        return None
    reasons = []
    if device.status == "pending":
        reasons.append(f"waits for approval: fl-server devices approve {root} {device.client_id}")
    if device.certificate_ends_s is not None and device.certificate_ends_s < now_s:
        ended = datetime.fromtimestamp(device.certificate_ends_s, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        reasons.append(f"its certificate ended at {ended}; make a token with its name and enrol it anew")
    other = None if release is None else other_release(__version__, release)
    return "; ".join([*reasons, *([] if other is None else [other])]) or None
