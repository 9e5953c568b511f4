"""Finds whose data the model knows little or nothing of, and rounds in which it learned from nobody."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from fl_core.findings import Finding
from fl_server.watch.left_out import HAPPENED, by_reason
from fl_server.watch.records import ClientState, Mishap
from fl_server.watch.state import RunState

TOPIC = "clients left out"
OFTEN = 0.5
"""Share of a client's rounds without it at which a line is due."""
FEWEST_TIMES = 3
"""Being left out less often than so is what federations live with."""


def never_accepted(state: RunState) -> Iterator[Finding]:
    """One finding for all that were left out each time, by the reason of the last."""
    without = {name for name, client in state.clients.items() if client.left_out and not client.updates}
    yield from _by_reason(state, without, "never had an update accepted")


def often_left_out(state: RunState) -> Iterator[Finding]:
    """One finding for all that were left out of most of their rounds, by the reason of the last."""
    often = {name for name, client in state.clients.items() if client.updates and _often(client)}
    yield from _by_reason(state, often, "were left out of at least half of their rounds")


def idle_rounds(state: RunState) -> Iterator[Finding]:
    """The rounds of a run that did learn, in which no update was accepted."""
    finished = state.finished_rounds()
    idle = [each.number for each in finished if not each.answered]
    if idle and state.updates:
        many = f"{len(idle)} of {len(finished)} rounds had no update accepted, the last of them round {idle[-1]}"
        yield Finding("rounds without an update", f"{many}: the model stayed as it was before each of them")


def _often(client: ClientState) -> bool:
    rounds = client.left_out + len(client.updates)
    return client.left_out >= FEWEST_TIMES and client.left_out >= OFTEN * rounds


def _by_reason(state: RunState, clients: Collection[str], what: str) -> Iterator[Finding]:
    last: dict[str, Mishap] = {each.who: each for each in state.mishaps if each.who in clients}
    for group in by_reason(last.values()).values():
        many = f"{len(group.clients)} of {len(state.clients)} clients {what}"
        yield Finding(TOPIC, f"{many}: {group.names}: {HAPPENED[group.kind]}: {group.reason}")
