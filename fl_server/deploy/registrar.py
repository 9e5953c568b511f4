"""Keeps the SuperLink's list of nodes equal to the registry of devices: approved keys in, retired ones out.

The gateway refuses a retired device by itself and at once; here the SuperLink learns of it too, so that no round is
planned with a node that cannot answer. The SuperLink itself is asked what it knows, so nothing is kept here that a
crash or a full disk could make wrong.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from fl_core.errors import RoundError, StonecropError
from fl_core.identity import twice_in_words
from fl_server.deploy.control import Control
from fl_server.deploy.home import ServerHome
from fl_server.gateway.doubles import Double
from fl_server.gateway.operate import approved_keys, identities_used_twice, retired_keys
from fl_server.gateway.waiting import devices_waiting

logger = logging.getLogger(__name__)

SYNC_EVERY_S = 1.0


@dataclass
class NodeRegistrar:
    """Tells one SuperLink which devices may connect; ``keep`` does so again and again, in a thread of its own."""

    home: ServerHome
    control: Control
    trouble: str | None = None
    """Why devices cannot be let in or out right now."""
    waiting: Mapping[str, str] = field(default_factory=dict)
    """Why devices take no part, by client_id."""
    doubles: Sequence[Double] = ()
    """Identities that two boards have used."""
    _nodes: dict[bytes, str] | None = None
    """Node ids by key, as the SuperLink said last."""

    def sync(self) -> int:
        """Tell the SuperLink what changed; gives the number of changes.

        Raises:
            RoundError: the SuperLink refused these devices, or does not answer; the others are done.
            IdentityError: the folder has no authority.
        """
        approved = {key.pem.strip(): key for key in approved_keys(self.home.folder)}
        retired = {key.pem.strip(): key for key in retired_keys(self.home.folder)}
        nodes = self._nodes
        if nodes is None or approved.keys() - nodes.keys() or retired.keys() & nodes.keys():
            self._nodes = nodes = {pem.strip(): node_id for pem, node_id in self.control.nodes().items()}
        fresh = [pem for pem in approved if pem not in nodes]
        gone = [pem for pem in retired if pem in nodes]
        refused = []
        for pem in (*gone, *fresh):
            try:
                if pem in nodes:
                    self.control.unregister(nodes[pem])
                    del nodes[pem]
                else:
                    nodes[pem] = self.control.register(approved[pem].pem, approved[pem].client_id)
                    logger.info("device %s: may connect", approved[pem].client_id)
            except RoundError as error:
                refused.append(f"device {(approved | retired)[pem].client_id}: {error}")
        if refused:
            raise RoundError("; ".join(refused))
        return len(gone) + len(fresh)

    def keep(self, ready: threading.Event, stop: threading.Event) -> None:
        """Sync again and again until ``stop``, whenever the SuperLink is ``ready``; what goes wrong is tried again."""
        while not stop.wait(SYNC_EVERY_S):
            self._look_for_waiting()
            self._look_for_doubles()
            if ready.is_set():
                try:
                    self.sync()
                    self._note(None)
                except (StonecropError, OSError, sqlite3.Error) as error:  # a full disk is one of the last two
                    self._note(str(error))

    def _look_for_waiting(self) -> None:
        with suppress(StonecropError, OSError):  # the next look will do
            before, self.waiting = self.waiting, devices_waiting(self.home.folder, time.time())
            for client_id, reason in self.waiting.items():
                if before.get(client_id) != reason:
                    logger.warning("device %s takes no part: %s", client_id, reason)

    def _look_for_doubles(self) -> None:
        with suppress(StonecropError, OSError, sqlite3.Error):  # the next look will do
            known = {double.node_key for double in self.doubles}
            self.doubles = identities_used_twice(self.home.folder)
            for double in self.doubles:
                if double.node_key not in known:
                    logger.warning("devices: %s", twice_in_words(double.client_id))

    def _note(self, trouble: str | None) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            logger.warning("devices: %s", trouble or "all are told to the SuperLink again")
