"""The virtual clock of a simulated fleet: it says when each reply arrives, and moves on when nothing is left to do.

A client works on one task at a time and takes its ``seconds_per_round`` for each; every other question is answered at
once, unless the client is at work. Time has nothing to do with how long this machine computes, so a run's order of
replies is that of its config and seed, for any number of workers and after any crash.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fl_core.config import Config
from fl_core.errors import ConfigError
from fl_core.questions import TRAIN
from fl_core.rng import derive_seed


class VirtualClock:
    """Virtual seconds since the start of the run.

    Args:
        seconds_per_round: what a task takes, unless the client is named in ``clients``.
        clients: the same by client_id.
    """

    def __init__(self, seconds_per_round: float = 0.0, clients: Mapping[str, float] | None = None) -> None:
        self._seconds = seconds_per_round
        self._clients = dict(clients or {})
        self._now_s = 0.0
        self._due: dict[str, tuple[float, int, str]] = {}
        self._busy_until_s: dict[str, float] = {}
        self._again = False

    def now_s(self) -> float:
        """Virtual seconds since the start."""
        return self._now_s

    def pause(self, wait_s: float, until_s: float) -> None:
        """Go on to the next arrival, or to ``until_s`` when nothing arrives before it; ``wait_s`` is for real time."""
        arrivals = [due[0] for due in self._due.values()]
        self._now_s = max(self._now_s, min([until_s, *arrivals]))

    def save(self) -> dict[str, Any]:
        """The time, and until when each client is or was at work, as plain values."""
        return {"now_s": self._now_s, "busy_until_s": dict(sorted(self._busy_until_s.items()))}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from what ``save`` gave."""
        self._now_s = float(saved["now_s"])
        self._busy_until_s = dict(saved["busy_until_s"])

    @contextmanager
    def again(self, sent_s: float) -> Iterator[None]:
        """Tasks that start in here were first asked at ``sent_s``, before a crash: they are done when they would be."""
        present_s = self._now_s
        self._now_s, self._again = sent_s, True
        try:
            yield
        finally:
            self._now_s, self._again = present_s, False

    def start(self, message_id: str, message_type: str, group_id: str, client_id: str) -> None:
        """A message reaches its client now."""
        due_s = max(self._now_s, self._busy_until_s.get(client_id, 0.0))
        if message_type.partition(".")[0] == TRAIN.message_type and not self._again:
            due_s += self._clients.get(client_id, self._seconds)
            self._busy_until_s[client_id] = due_s
        # Replies of the same moment come in an order that favours no name.
        self._due[message_id] = (due_s, derive_seed("arrival", group_id, client_id), client_id)

    def arrived(self, message_ids: Iterable[str]) -> list[str]:
        """Those of the messages whose replies are due by now, first come first."""
        due = [key for key in message_ids if key in self._due and self._due[key][0] <= self._now_s]
        return sorted(due, key=lambda key: self._due[key])

    def finish(self, message_id: str) -> None:
        """Nothing more is to come from a message."""
        del self._due[message_id]


def virtual_clock(config: Config, clients: Iterable[str]) -> VirtualClock:
    """The clock of a config's fleet.

    Raises:
        ConfigError: it names a client that there is not.
    """
    known = sorted(clients)
    unknown = sorted(config.simulation.clients.keys() - set(known))
    if unknown:
        raise ConfigError(f"simulation.clients: expected some of {', '.join(known)}; got {', '.join(unknown)}")
    return VirtualClock(config.simulation.seconds_per_round, config.simulation.clients)
