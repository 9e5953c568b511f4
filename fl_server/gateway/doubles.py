"""Two boards that use one identity, as a copied card makes them: noticed while both are alive, and kept until one of
them is enrolled anew.

A board's requests name its processes as they run now, by a word that is drawn at each start and that no copy has. A
start after a crash brings a new word and the old one is never heard again; a word that is still heard well after a
newer one came is that of a second board. The one that came later is refused from then on; which of both is the copy,
nobody here can know. This finds mistakes: whoever steals keys can hold back the word.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from fl_core.files import read_json, write_json

SURE_S = 15.0
"""How long after a newer start an older one must still be heard: what it had sent before its end may come late."""
ALIVE_S = 60.0
"""How long after its last request a board counts as alive, as a SuperNode does for Flower."""
_KEPT = 8
"""Starts of one identity that are remembered, those that were heard last."""
_SEEN_EVERY_S = 15.0
_INSTANCE = re.compile(r"[0-9a-f]{32}")


@dataclass
class _Start:
    first_s: float
    last_s: float
    refused: bool = False


@dataclass(frozen=True)
class Double:
    """An identity that two boards used; times in Unix seconds."""

    client_id: str
    node_key: str
    """PEM; both boards have it from one enrolment, and a new one ends it."""
    first_s: float
    last_s: float


class Doubles:
    """The identities that are used twice, kept in the JSON file ``path``; threads may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._starts: dict[str, dict[str, _Start]] = {}
        """By node key and instance, in the order in which they came."""
        self._found = read_doubles(path)

    def is_second(self, node_key: str, instance: str, now_s: float) -> bool:
        """Whether a request of the enrolment with ``node_key``, from a board that began as ``instance``, is that of a
        second board beside one that began earlier; never so for a board that names no start.
        """
        if not _INSTANCE.fullmatch(instance):
            return False
        with self._lock:
            starts = self._starts.setdefault(node_key, {})
            own = starts.setdefault(instance, _Start(now_s, now_s))
            own.last_s = now_s
            before = takewhile(lambda each: each is not own, starts.values())
            own.refused = own.refused or any(
                not each.refused and each.last_s >= own.first_s + SURE_S for each in before
            )
            if len(starts) > _KEPT:
                del starts[min(starts, key=lambda each: starts[each].last_s)]
            return own.refused

    def is_refused(self, node_key: str, instance: str) -> bool:
        """Whether that start was found to be a second board's."""
        with self._lock:
            start = self._starts.get(node_key, {}).get(instance)
            return start is not None and start.refused

    def note(self, client_id: str, node_key: str, now_s: float) -> None:
        """Keep that two boards use this enrolment right now."""
        with self._lock:
            known = self._found.get(node_key)
            if known is not None and now_s - known.last_s < _SEEN_EVERY_S:
                return
            self._found[node_key] = Double(client_id, node_key, known.first_s if known else now_s, now_s)
            with suppress(OSError):  # a full disk must not lock the fleet out
                write_json(self._path, {"doubles": [vars(double) for double in self._found.values()]})

    def of(self, node_key: str) -> Double | None:
        """What was found of the enrolment with this node key."""
        with self._lock:
            return self._found.get(node_key)


def read_doubles(path: Path) -> dict[str, Double]:
    """What ``Doubles`` found, by node key; of enrolments that have ended, too."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        found: list[Mapping[str, object]] = (read_json(path) or {"doubles": []})["doubles"]
        doubles = [Double(**each) for each in found]  # type: ignore[arg-type]
        return {double.node_key: double for double in doubles}
    return {}
