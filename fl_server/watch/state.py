"""What a server knows of a run from its events alone: rounds, clients, when each was heard of last, who was left out.

``RunStatus`` is fed with events; the command, the metrics and the health endpoint show the same figures from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fl_core.runlog import Event
from fl_server.watch.tail import Follower

HEARD_OF = ("client_finished", "client_refused", "client_rejected", "client_failed")
"""Kinds of events by which a client shows that it is there."""
LEFT_OUT = ("client_refused", "client_rejected", "client_failed", "client_missing")
MOST_REASONS = 20
"""Newest cases of somebody being left out that are kept with their reasons."""


@dataclass
class ClientStatus:
    """What the events say of one client."""

    last_seen: float | None = None
    """Unix time in seconds of its newest answer."""
    last_round: int | None = None
    epsilon: float | None = None
    updates: int = 0
    left_out: int = 0


@dataclass
class RunStatus:
    """The newest figures of one run."""

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
    """How often somebody was left out, by kind of event."""
    reasons: list[dict[str, Any]] = field(default_factory=list)
    """The newest of these: {round, client_id, kind, reason, time}."""

    def update(self, event: Event) -> None:
        """Take in one event."""
        kind = event["kind"]
        self.name = event["run"]
        if "client_id" in event:
            self._update_client(kind, event)
        match kind:
            case "run_started":
                self.rounds = event["rounds"]
                self.private = event["privacy"] is not None
                self.named_seeds = bool((event["privacy"] or {}).get("named_seeds"))
                for client_id in event["clients"]:
                    self.clients.setdefault(client_id, ClientStatus(last_seen=event["time"]))
            case "run_resumed":
                self.resumed += 1
            case "round_finished":
                self._finish_round(event)
            case "run_finished":
                self.finished = True

    def to_plain(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)

    def _update_client(self, kind: str, event: Event) -> None:
        client = self.clients.setdefault(event["client_id"], ClientStatus())
        if kind in HEARD_OF:
            client.last_seen, client.last_round = event["time"], event["round"]
        if kind == "client_finished":
            client.updates += 1
            client.epsilon = event["epsilon"]
            self.named_seeds |= self.private and client.epsilon is None
        elif kind in LEFT_OUT:
            client.left_out += 1
            self.left_out = dict(Counter(self.left_out) + Counter([kind]))
            case = {key: event[key] for key in ("round", "client_id", "kind", "reason", "time")}
            self.reasons = [*self.reasons, case][-MOST_REASONS:]

    def _finish_round(self, event: Event) -> None:
        self.rounds_done = event["round"]
        self.round_seconds = event["seconds"]
        self.uplink_bytes += event["uplink_bytes"]
        self.downlink_bytes += event["downlink_bytes"]
        if event["epsilon_max"] is not None:
            self.epsilon_max = max(self.epsilon_max or 0.0, event["epsilon_max"])
        if self.named_seeds:
            self.epsilon_max = None
        scores: Mapping[str, Any] = event["evaluation"] or {}
        keys = ("accuracy_int8", "accuracy_fake_quant", "accuracy_float")
        self.accuracy = next((scores[key] for key in keys if scores.get(key) is not None), self.accuracy)


class RunWatch:
    """The status of a run folder, kept up to date by ``poll``."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.status = RunStatus()
        self._follower = Follower(run_dir)

    def poll(self) -> RunStatus:
        """The status now."""
        held, events = self._follower.poll()
        if not held:
            self.status = RunStatus()
        for event in events:
            self.status.update(event)
        return self.status


def status_of(run_dir: Path) -> RunStatus:
    """The status of a run folder now."""
    return RunWatch(run_dir).poll()
