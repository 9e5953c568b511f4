"""Clients that were left out, by the reason: one line for all that were left out for the same one.

Reasons are the same when they differ in the client's name and in numbers alone. ``NewReasons`` gives each once a run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fl_core.runlog import Event
from fl_server.watch.records import Mishap

HAPPENED: Mapping[str, str] = {
    "client_failed": "failed",
    "client_refused": "refused",
    "client_rejected": "sent an update that was rejected",
    "client_missing": "gave no answer in time",
}
"""What clients did that were left out, by kind of event."""
MOST_NAMES, MOST_LINES = 5, 5
_NUMBER = re.compile(r"\d[\d.]*(?:e[+-]?\d+)?|\b(?:nan|inf)\b")


@dataclass(frozen=True)
class LeftOutGroup:
    """All clients that were left out for one reason, by name, and the reason as the first of them had it."""

    kind: str
    reason: str
    clients: tuple[str, ...]

    @property
    def names(self) -> str:
        """The clients, a crowd by its first."""
        more = len(self.clients) - MOST_NAMES
        return ", ".join(self.clients[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")

    def line(self, clients: int) -> str:
        """How many of so many ``clients`` were left out, who, and why."""
        of = f" of {clients}" if clients >= len(self.clients) else ""
        noun = "client" if max(clients, len(self.clients)) == 1 else "clients"
        return f"{len(self.clients)}{of} {noun} {HAPPENED[self.kind]}: {self.names}: {self.reason}"


def by_reason(mishaps: Iterable[Mishap]) -> dict[tuple[str, str], LeftOutGroup]:
    """The clients among ``mishaps`` by kind and wording of their reasons, the reason of most clients first."""
    firsts: dict[tuple[str, str], tuple[str, set[str]]] = {}
    for each in mishaps:
        if each.kind in HAPPENED:
            firsts.setdefault((each.kind, _wording(each)), (each.reason, set()))[1].add(each.who)
    groups = {key: LeftOutGroup(key[0], reason, tuple(sorted(who))) for key, (reason, who) in firsts.items()}
    return dict(sorted(groups.items(), key=lambda item: -len(item[1].clients)))


def lines_of(groups: Iterable[LeftOutGroup], clients: int) -> list[str]:
    """One line a reason, as far as they are few, and how many more there are."""
    lines = [group.line(clients) for group in groups]
    more = len(lines) - MOST_LINES
    return lines if more <= 0 else [*lines[:MOST_LINES], f"and {more} more reasons, which the report has"]


class NewReasons:
    """Fed with the events of one run, tells at the end of a round why clients were left out, each reason once."""

    def __init__(self) -> None:
        self._said: set[tuple[str, str]] = set()
        self._since: list[Mishap] = []
        self._asked = 0

    def update(self, event: Event) -> list[str]:
        """Take in the next event; gives the lines that are due."""
        kind = event["kind"]
        if kind in HAPPENED:
            self._since.append(Mishap.of(event))
        elif kind == "round_started":
            self._asked = len(event["cohort"])
        elif kind == "round_finished" and self._since:
            fresh = {key: group for key, group in by_reason(self._since).items() if key not in self._said}
            self._said.update(fresh)
            self._since.clear()
            return [f"round {event['round']}: {line}" for line in lines_of(fresh.values(), self._asked)]
        return []


def _wording(mishap: Mishap) -> str:
    nameless = re.sub(rf"(?<!\w){re.escape(mishap.who)}(?!\w)", "", mishap.reason)
    return _NUMBER.sub("#", nameless)
