"""Keeps the SuperLink's list of nodes equal to the registry of devices: approved keys in, retired ones out.

The gateway refuses a retired device by itself and at once; here the SuperLink learns of it too, so that no round is
planned with a node that cannot answer. What the SuperLink was told is kept beside its database.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from dataclasses import dataclass
from pathlib import Path

from fl_core.errors import RoundError
from fl_core.runlog import write_json
from fl_server.deploy.control import Control
from fl_server.deploy.home import Home
from fl_server.gateway.operate import NodeKey, approved_keys, retired_keys

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class Roster:
    """The nodes of one SuperLink."""

    home: Home
    control: Control

    def sync(self) -> int:
        """Tell the SuperLink what changed; gives the number of changes.

        Raises:
            RoundError: the SuperLink refused one, or does not answer; the others before it are done.
        """
        known = self._known()
        retired = {_name_of(key) for key in retired_keys(self.home.folder)}
        fresh = [key for key in approved_keys(self.home.folder) if _name_of(key) not in known]
        for key in fresh:
            known[_name_of(key)] = self.control.register(key.pem, key.client_id)
            write_json(self._path, known)
            logger.info("device %s: may connect", key.client_id)
        gone = [name for name in known if name in retired]
        for name in gone:
            self.control.unregister(known.pop(name))
            write_json(self._path, known)
        return len(fresh) + len(gone)

    def keep(self, ready: threading.Event, stop: threading.Event) -> None:
        """Sync again and again until ``stop``, whenever the SuperLink is ``ready``."""
        while not stop.wait(LOOK_EVERY_S):
            if ready.is_set():
                try:
                    self.sync()
                except RoundError as error:
                    logger.warning("devices: %s", error)

    @property
    def _path(self) -> Path:
        return _path_in(self.home)

    def _known(self) -> dict[str, str]:
        return _known_at(self._path)


def names_of_nodes(home: Home) -> dict[int, str]:
    """The client_id under which each node of the SuperLink was enrolled, by node id."""
    known = _known_at(_path_in(home))
    named = ((_name_of(key), key.client_id) for key in approved_keys(home.folder))
    return {int(known[name]): client_id for name, client_id in named if name in known}


def _path_in(home: Home) -> Path:
    return home.flower / "nodes.json"


def _known_at(path: Path) -> dict[str, str]:
    """Node ids by the name of their key."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _name_of(key: NodeKey) -> str:
    return hashlib.sha256(key.pem.strip()).hexdigest()
