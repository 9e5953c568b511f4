"""What a server tells of a run: the state's figures as plain values, for the command, the metrics and the endpoint.

``RunTail`` keeps the state of a run folder up to date while another process writes it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fl_server.watch.records import ClientState
from fl_server.watch.state import CLIENT_MISHAPS, RunState
from fl_server.watch.tail import EventTail

MOST_REASONS = 20
"""Newest cases of a client being left out that are told with their reasons."""


@dataclass(frozen=True)
class ClientStatus:
    """What is told of one client."""

    last_seen: float | None = None
    """Unix time in seconds of its newest answer."""
    last_round: int | None = None
    epsilon: float | None = None
    updates: int = 0
    left_out: int = 0

    @classmethod
    def of(cls, client: ClientState) -> ClientStatus:
        """The figures of one client's state."""
        return cls(client.last_seen, client.last_round, client.epsilon, len(client.updates), client.left_out)


@dataclass(frozen=True)
class RunStatus:
    """The newest figures of one run, as ``fl-server status --json`` prints them."""

    name: str = ""
    rounds: int = 0
    rounds_done: int = 0
    finished: bool = False
    resumed: int = 0
    epsilon_max: float | None = None
    private: bool = False
    """Whether devices train under DP."""
    named_seeds: bool = False
    """Whether a board's noise comes from named seeds; no epsilon of the run holds then."""
    uplink_bytes: int = 0
    downlink_bytes: int = 0
    round_seconds: float | None = None
    accuracy: float | None = None
    clients: dict[str, ClientStatus] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    """How often a client was left out, by kind of event."""
    reasons: list[dict[str, Any]] = field(default_factory=list)
    """The newest of these: {round, client_id, kind, reason, time}."""

    @classmethod
    def of(cls, state: RunState) -> RunStatus:
        """The figures of a state; it shares nothing with it that changes later."""
        newest = state.rounds.get(state.rounds_done)
        cases = [each for each in state.mishaps if each.kind in CLIENT_MISHAPS][-MOST_REASONS:]
        return cls(
            name=state.name,
            rounds=state.rounds_planned,
            rounds_done=state.rounds_done,
            finished=state.finished,
            resumed=state.resumed,
            epsilon_max=state.epsilon_max,
            private=state.privacy is not None,
            named_seeds=state.named_seeds,
            uplink_bytes=state.bytes_up,
            downlink_bytes=state.bytes_down,
            round_seconds=newest.seconds if newest is not None and newest.finished else None,
            accuracy=state.accuracy,
            clients={name: ClientStatus.of(client) for name, client in state.clients.items()},
            left_out=dict(state.left_out),
            reasons=[
                {"round": c.round, "client_id": c.who, "kind": c.kind, "reason": c.reason, "time": c.time}
                for c in cases
            ],
        )

    def to_plain(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


class RunTail:
    """The state of a run folder, kept up to date by ``poll``."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self._tail = EventTail(run_dir)
        self._state = RunState()

    def poll(self) -> RunState:
        """The state now. The next call goes on with the same object, or with a new one where the file was cut."""
        held, events = self._tail.poll()
        if not held:
            self._state = RunState()
        for event in events:
            self._state.update(event)
        return self._state


def status_of(run_dir: Path) -> RunStatus:
    """The status of a run folder now."""
    return RunStatus.of(RunTail(run_dir).poll())
