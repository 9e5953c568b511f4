"""Finds the clients that were asked and of which no update was ever accepted: the model knows nothing of their data."""

from __future__ import annotations

from collections.abc import Iterator

from fl_core.findings import Finding
from fl_server.watch.left_out import HAPPENED, by_reason
from fl_server.watch.records import Mishap
from fl_server.watch.state import RunState


def never_accepted(state: RunState) -> Iterator[Finding]:
    """One finding for all that were left out each time, by the reason of the last."""
    without = {name for name, client in state.clients.items() if client.left_out and not client.updates}
    last: dict[str, Mishap] = {each.who: each for each in state.mishaps if each.who in without}
    for group in by_reason(last.values()).values():
        many = f"{len(group.clients)} of {len(state.clients)} clients never had an update accepted"
        yield Finding("clients left out", f"{many}: {group.names}: {HAPPENED[group.kind]}: {group.reason}")
