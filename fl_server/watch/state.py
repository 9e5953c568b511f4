"""The one reducer of events: from what a run wrote down to all that anybody shows of it.

``RunState`` is fed with the events of one run in their order. Live view, status, metrics, summary, report and
comparison read it and count nothing themselves, so the same events say the same thing everywhere. An event costs the
same in the thousandth round as in the first: figures are appended or kept as they grow, and nothing is read again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fl_core.runlog import Event
from fl_server.watch.accuracy import best_accuracy
from fl_server.watch.records import MISHAPS, ClientAccuracy, ClientState, Mishap, PublishedArtifact, RoundState

ANSWER_KINDS = ("client_finished", "client_refused", "client_rejected", "client_failed")
"""Kinds of events by which a client shows that it is there."""
CLIENT_MISHAPS = MISHAPS.keys() - {"artifact_vetoed"}
"""Kinds of events by which a client is left out of a round."""


@dataclass
class RunState:
    """Everything that the events of one run say, as far as they go; empty before the first.

    Records are keyed by round and by client, since the artefacts of a round may be published, and its clients scored,
    while the next round is under way. Runs that publish within the round read the same.
    """

    name: str = ""
    start: Event = field(default_factory=dict)
    """The event that opened the run; empty where a crash came before it."""
    rounds: dict[int, RoundState] = field(default_factory=dict)
    """Every round that has begun, by number."""
    clients: dict[str, ClientState] = field(default_factory=dict)
    artifacts: list[PublishedArtifact] = field(default_factory=list)
    """Those that passed their gate, in order."""
    mishaps: list[Mishap] = field(default_factory=list)
    """Clients and artefacts that were left out, in order."""
    left_out: Counter[str] = field(default_factory=Counter)
    """How often a client was left out, by kind of event."""
    current: int | None = None
    """The round that began last; None before the first, and after a resumption until the next begins."""
    rounds_done: int = 0
    """Number of the last finished round."""
    accuracy: float | None = None
    """The score of the newest model that was measured after training, in its preferred form."""
    resumed: int = 0
    """Times that the run went on after an interruption."""
    finished: bool = False
    """Whether all rounds are done."""
    process_s: float = 0.0
    """Wall time of the process that finished the run, in seconds."""
    _spent: float | None = None
    _untold: bool = False
    _accuracy_of: int = 0

    def update(self, event: Event) -> None:
        """Take in the next event of the run."""
        kind = event["kind"]
        self.name = event.get("run", self.name)
        if "client_id" in event:
            self._update_client(kind, event)
        if kind in MISHAPS:
            self.mishaps.append(Mishap.of(event))
        match kind:
            case "run_started":
                self._begin(event)
            case "run_resumed":
                self._resume(event["rounds_done"])
            case "round_started":
                self.current = event["round"]
                begun = RoundState(self.current, cohort=len(event["cohort"]), started_at=event.get("time"))
                self.rounds[self.current] = begun
            case "round_timed":
                self._round(event).virtual_s = float(event["virtual_s"])
            case "round_finished":
                self._finish_round(event)
            case "round_published":
                self._round(event).published = event["evaluation"]
                self._measure(self._round(event))
            case "artifact_published":
                self.artifacts.append(PublishedArtifact.of(event))
            case "run_finished":
                self.finished, self.process_s = True, float(event["seconds"])
                self._spend(event.get("epsilon_max"))

    @property
    def rounds_planned(self) -> int:
        """Rounds that the run is to have; 0 before it has begun."""
        return int(self.start.get("rounds") or 0)

    @property
    def privacy(self) -> Mapping[str, Any] | None:
        """The terms of private training on the devices; None without."""
        return self.start.get("privacy")

    @property
    def data(self) -> Mapping[str, Any]:
        """What the run says of its data."""
        return self.start.get("data") or {}

    @property
    def attack(self) -> Mapping[str, Any] | None:
        """Who lies in a simulation, and how; None where all clients are honest."""
        return self.start.get("attack")

    @property
    def metric(self) -> str:
        """What an evaluation measures, "accuracy" unless the task says otherwise."""
        return str(self.data.get("metric") or "accuracy")

    @property
    def initial_accuracy(self) -> float | None:
        """Accuracy of the untrained model, in its preferred form; None where it was not measured."""
        return best_accuracy(self.start.get("initial"))

    @property
    def named_seeds(self) -> bool:
        """Whether a board drew noise from named seeds, in a run under DP that is no simulation: no epsilon holds."""
        return self.privacy is not None and (self._untold or bool(self.privacy.get("named_seeds")))

    @property
    def epsilon_max(self) -> float | None:
        """The largest epsilon that any client has spent so far; None without DP and where none holds."""
        return None if self.named_seeds else self._spent

    @property
    def user_epsilon(self) -> float | None:
        """What one whole client has spent at the server so far; None without noise for whole clients."""
        told = (each.user_epsilon for each in self.finished_rounds())
        return max((epsilon for epsilon in told if epsilon is not None), default=None)

    @property
    def updates(self) -> int:
        """Updates that were summed, of all clients."""
        return sum(len(client.updates) for client in self.clients.values())

    @property
    def bytes_up(self) -> int:
        """Bytes of the updates of all rounds together."""
        return sum(each.uplink_bytes for each in self.finished_rounds())

    @property
    def bytes_down(self) -> int:
        """Bytes of the models that were sent to clients in all rounds together."""
        return sum(each.downlink_bytes for each in self.finished_rounds())

    @property
    def seconds(self) -> float:
        """Wall time: that of all rounds, which resumptions add to, or that of the last process if longer."""
        return max(float(sum(each.seconds for each in self.finished_rounds())), self.process_s)

    def finished_rounds(self) -> list[RoundState]:
        """The rounds that are over, in order of their numbers."""
        return [self.rounds[number] for number in sorted(self.rounds) if self.rounds[number].finished]

    def newest_rounds(self, count: int) -> list[RoundState]:
        """At most ``count`` rounds, those that ended last, in order of their numbers."""
        numbers = range(max(1, self.rounds_done - count + 1), self.rounds_done + 1)
        return [self.rounds[number] for number in numbers if number in self.rounds and self.rounds[number].finished]

    def evaluations(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """(round, record) of every evaluation of the global model, round 0 for the untrained one."""
        initial = self.start.get("initial")
        if initial:
            yield 0, initial
        for each in self.finished_rounds():
            if each.evaluation:
                yield each.number, each.evaluation

    def _begin(self, event: Event) -> None:
        self.start = event
        self._spend(event.get("epsilon_max"))
        for client_id in event.get("clients", ()):
            self.clients.setdefault(client_id, ClientState(client_id, last_seen=event.get("time")))

    def _resume(self, rounds_done: int) -> None:
        """Forget what was seen of rounds that are run again; in a file that was cut for it there are none."""
        self.resumed += 1
        self.current, self.rounds_done = None, rounds_done
        self.rounds = {number: each for number, each in self.rounds.items() if number <= rounds_done}
        self.artifacts = [each for each in self.artifacts if each.round <= rounds_done]
        self.mishaps = [each for each in self.mishaps if each.round <= rounds_done]
        self.left_out = Counter(each.kind for each in self.mishaps if each.kind in CLIENT_MISHAPS)
        times = Counter(each.who for each in self.mishaps if each.kind in CLIENT_MISHAPS)
        for client in self.clients.values():
            client.updates = [update for update in client.updates if update[0] <= rounds_done]
            client.left_out = times[client.client_id]
        self.accuracy, self._accuracy_of = None, 0
        for each in self.finished_rounds():
            self._measure(each)

    def _round(self, event: Event) -> RoundState:
        number = int(event["round"])
        return self.rounds.setdefault(number, RoundState(number))

    def _finish_round(self, event: Event) -> None:
        each = self._round(event)
        each.finished, each.finished_at, each.seconds = True, event.get("time"), event["seconds"]
        each.uplink_bytes, each.downlink_bytes = event.get("uplink_bytes", 0), event.get("downlink_bytes", 0)
        each.user_epsilon = event.get("user_epsilon")
        each.clipped = event.get("clipped")
        each.measured = event["evaluation"]
        self.rounds_done = max(self.rounds_done, each.number)
        self._spend(event["epsilon_max"])
        self._measure(each)

    def _measure(self, each: RoundState) -> None:
        accuracy = best_accuracy(each.evaluation)
        if accuracy is not None and each.number >= self._accuracy_of:
            self.accuracy, self._accuracy_of = accuracy, each.number

    def _spend(self, epsilon: float | None) -> None:
        if epsilon is not None:
            self._spent = float(epsilon) if self._spent is None else max(self._spent, float(epsilon))

    def _update_client(self, kind: str, event: Event) -> None:
        client_id, number = event["client_id"], event["round"]
        client = self.clients.setdefault(client_id, ClientState(client_id))
        if kind in ANSWER_KINDS:
            client.last_seen, client.last_round = event.get("time"), number
        if kind == "client_finished":
            self._round(event).answered += 1
            client.updates.append((number, event["epsilon"]))
            self._untold |= event["epsilon"] is None
            self._spend(event["epsilon"])
        elif kind in CLIENT_MISHAPS:
            self.left_out[kind] += 1
            client.left_out += 1
            self._round(event).left_out += 1
        elif kind == "client_trained":
            client.personal_score = event.get("personal_score")
            client.examples = None if event.get("examples") is None else int(event["examples"])
        elif kind == "client_evaluated":
            scores = (event["accuracy_float"], event["accuracy_int8"])
            client.evaluated = ClientAccuracy(client_id, number, event["examples"], *scores, event.get("confusion"))


def state_of(events: Iterable[Event]) -> RunState:
    """The state after these events, which are those of one run in their order."""
    state = RunState()
    for event in events:
        state.update(event)
    return state
