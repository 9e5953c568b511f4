"""What changes under a board that runs for months: its certificate's age, who it is, where its server is, and whether
another board has its identity.

To look at these may take long, and a disk may be full, so it is done beside the loop that keeps the processes up.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from fl_client.node.identity import Identity, load_identity, renew_if_due
from fl_client.node.standing import StandingWatch
from fl_core.errors import IdentityError

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 15.0
_RENEW_EVERY_S = 600.0


def look_after(root: Path, stop: threading.Event, restart: Callable[[str], None]) -> None:
    """Until ``stop``, renew the certificate of the identity under ``root``, ask how it stands with its server, and
    ``restart`` what is stale, by name.
    """
    renewal, standing, stale = DeviceCertificateRenewal(root), StandingWatch(root), StaleProcesses(root)
    while not stop.is_set():
        renewal.step(time.monotonic())
        standing.step(time.monotonic())
        for name in stale.look():
            restart(name)
        stop.wait(LOOK_EVERY_S)


class DeviceCertificateRenewal:
    """Renews the certificate when it is due; what keeps it from that is tried again, for as long as it takes."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._next = 0.0
        self._said = ""

    def step(self, now_s: float) -> None:
        """Look once in ``_RENEW_EVERY_S``; what goes wrong is said once and tried again."""
        if now_s < self._next:
            return
        self._next = now_s + _RENEW_EVERY_S
        try:
            if renew_if_due(self._root):
                logger.info("the certificate was renewed")
            self._said = ""
        except (IdentityError, OSError, ValueError) as error:  # a server that is away, a full disk, a damaged file
            if str(error) != self._said:
                logger.warning("the certificate cannot be renewed now: %s", error)
            self._said = str(error)


class StaleProcesses:
    """Notices that processes run with what holds no more: forwarder and SuperNode read the identity when they start,
    nginx the addresses of the server.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._identity = _identity(root)
        self._addresses: frozenset[str] = frozenset()

    def look(self) -> tuple[str, ...]:
        """The processes to stop, in that order: a SuperNode says goodbye through a forwarder that is still there.

        Where one of the server's addresses still holds, or the name cannot be looked up now, nothing has changed.
        """
        identity = _identity(self._root)
        if identity is None:
            return ()
        before, self._identity = self._identity, identity
        addresses = addresses_of(identity.host, identity.port)
        if identity != before:
            self._addresses = addresses
            logger.info("the device was enrolled anew as %s: forwarder and SuperNode start again", identity.client_id)
            return ("supernode", "forwarder")
        if not addresses or self._addresses & addresses:
            return ()
        known, self._addresses = self._addresses, addresses
        if not known:
            return ()
        logger.info("%s has moved to %s: the forwarder starts again", identity.host, ", ".join(sorted(addresses)))
        return ("forwarder",)


def addresses_of(host: str, port: int) -> frozenset[str]:
    """The addresses of a server; none where its name cannot be looked up now."""
    try:
        return frozenset(str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (OSError, ValueError):
        return frozenset()


def _identity(root: Path) -> Identity | None:
    try:
        return load_identity(root)
    except (IdentityError, OSError):
        return None
