"""The release that each device holds, written down when the device asks how it stands with its server."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from fl_core.files import read_json, write_json

_RELEASE = re.compile(r"[0-9A-Za-z.+!-]{1,40}")


class Releases:
    """The releases that devices say they hold, kept in the JSON file ``path``; threads may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known = dict(read_releases(path))

    def note(self, client_id: str, release: str) -> None:
        """Keep what a device says; what is no release, and what is known already, is not written."""
        if not _RELEASE.fullmatch(release):
            return
        with self._lock:
            if self._known.get(client_id) != release:
                self._known[client_id] = release
                with suppress(OSError):  # a full disk must not lock the fleet out
                    write_json(self._path, self._known)


def read_releases(path: Path) -> Mapping[str, str]:
    """The release of each device that has said one, by client_id; nothing where none has."""
    with suppress(OSError, ValueError, TypeError):
        return {str(client_id): str(release) for client_id, release in (read_json(path) or {}).items()}
    return {}
