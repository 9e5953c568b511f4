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

from fl_client.node.identity import Identity, ask_twice, load_identity, renew_if_due
from fl_core.errors import IdentityError
from fl_core.files import read_json, write_json

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 15.0
_RENEW_EVERY_S = 600.0
_ASK_EVERY_S = 60.0
_TWICE = "twice.json"
"""In a board's folder of logs; there while another board has its identity."""


def look_after(root: Path, folder: Path, stop: threading.Event, restart: Callable[[str], None]) -> None:
    """Until ``stop``, renew the certificate of the identity under ``root`` and ``restart`` what is stale, by name.

    What is to be known of it meanwhile is kept in ``folder``.
    """
    renewal, stale, double = DeviceCertificateRenewal(root), StaleProcesses(root), SecondBoard(root, folder)
    while not stop.is_set():
        renewal.step(time.monotonic())
        double.step(time.monotonic())
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


class SecondBoard:
    """Asks the server whether another board has this one's identity, says so once, and keeps it for ``status``."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._path = folder / _TWICE
        self._next = 0.0
        self._said: str | None = None

    def step(self, now_s: float) -> None:
        """Ask once in ``_ASK_EVERY_S``; a server that cannot be asked changes nothing."""
        if now_s < self._next:
            return
        self._next = now_s + _ASK_EVERY_S
        try:
            words, _ = ask_twice(self._root)
            if words is None:
                self._path.unlink(missing_ok=True)
            elif words != self._said:
                logger.warning("%s", words)
                write_json(self._path, {"words": words})
            self._said = words
        except (IdentityError, OSError, ValueError):  # the renewal says what is wrong with it
            return


def second_board(folder: Path) -> str | None:
    """What was last found of another board with the same identity, and kept in ``folder``; None where there is none."""
    try:
        return str((read_json(folder / _TWICE) or {})["words"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


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
