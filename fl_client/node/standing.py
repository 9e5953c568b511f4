"""How a board stands with its server: whether it is let in, in time, and of the same release.

The server is asked now and then, by whoever keeps a board up. Where the board takes no part, its log says why, once,
and a file says it to those that are asked how the board is, for as long as it holds.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from pathlib import Path

from fl_client.node.identity import ask_server, check_in_time, load_identity
from fl_client.server_trouble import keep_server_trouble
from fl_core import __version__
from fl_core.errors import IdentityError, ServerAwayError
from fl_core.identity import UnixTime, other_release

logger = logging.getLogger(__name__)

SERVER_ASKED_EVERY_S = 60.0


def trouble_with_server(root: Path, clock: UnixTime = time.time) -> str | None:
    """Why the server has no use for the board under ``root``, in a line; None where it may take part.

    Raises:
        ServerAwayError: the server cannot be asked now.
    """
    try:
        identity = load_identity(root)
        check_in_time(identity, clock)
        said = ask_server(root, clock)
    except ServerAwayError:
        raise
    except IdentityError as error:
        return str(error)
    waits = "waits for approval by the server's operator" if said.get("status") == "pending" else None
    other = other_release(str(said.get("release", __version__)), __version__)
    words = "; ".join(filter(None, (waits, other)))
    return f"{identity.client_id}: {words}" if words else None


class Standing:
    """Asks the server once in ``SERVER_ASKED_EVERY_S``, and tells what has changed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._next = 0.0
        self._said: str | None = None
        with suppress(OSError):  # what an earlier start had found
            keep_server_trouble(root, None)

    def step(self, now_s: float) -> None:
        """Ask where it is time; a server that is away, or a damaged file, changes nothing."""
        if now_s < self._next:
            return
        self._next = now_s + SERVER_ASKED_EVERY_S
        try:
            trouble = trouble_with_server(self._root)
        except (ServerAwayError, OSError, ValueError):
            return
        if trouble != self._said:
            logger.warning("%s", trouble or "the server lets this device take part")
        self._said = trouble
        with suppress(OSError):  # a full disk leaves the log
            keep_server_trouble(self._root, trouble)
