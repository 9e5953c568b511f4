"""How a board stands with its server: whether it is let in, in time, of the same release, and alone with its identity.

The server is asked now and then, by whoever keeps a board up. Where the board takes no part, or another has its
identity, its log says so, once, and a file says it to those that are asked how the board is, for as long as it holds.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from pathlib import Path

from fl_client.node.identity import ask_server, check_in_time, load_identity
from fl_client.standing import Standing, keep_standing
from fl_core import __version__
from fl_core.errors import IdentityError, ServerAwayError
from fl_core.identity import UnixTime, other_release

logger = logging.getLogger(__name__)

SERVER_ASKED_EVERY_S = 60.0


def standing_of(root: Path, instance: str = "", clock: UnixTime = time.time) -> Standing:
    """How the board under ``root``, whose processes began as ``instance``, stands with its server.

    Raises:
        ServerAwayError: the server cannot be asked now.
    """
    try:
        identity = load_identity(root)
        check_in_time(identity, clock)
        said = ask_server(root, instance, clock)
    except ServerAwayError:
        raise
    except IdentityError as error:
        return Standing(str(error))
    twice = str(said["twice"]) if "twice" in said else None
    if said.get("refused") == "second":
        return Standing(twice, is_second=True)
    waits = "waits for approval by the server's operator" if said.get("status") == "pending" else None
    other = other_release(str(said.get("release", __version__)), __version__)
    words = "; ".join(filter(None, (waits, other)))
    return Standing(f"{identity.client_id}: {words}" if words else None, twice)


class StandingWatch:
    """Asks the server once in ``SERVER_ASKED_EVERY_S``, and tells what has changed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._next = 0.0
        self._said = Standing()
        with suppress(OSError):  # what an earlier start had found
            keep_standing(root, self._said)

    def step(self, now_s: float) -> None:
        """Ask where it is time; a server that is away, or a damaged file, changes nothing."""
        if now_s < self._next:
            return
        self._next = now_s + SERVER_ASKED_EVERY_S
        try:
            found = standing_of(self._root)
        except (ServerAwayError, OSError, ValueError):
            return
        before, self._said = self._said, found
        if found.trouble != before.trouble:
            logger.warning("%s", found.trouble or "the server lets this device take part")
        if found.twice not in (None, before.twice):
            logger.warning("%s", found.twice)
        with suppress(OSError):  # a full disk leaves the log
            keep_standing(self._root, found)
