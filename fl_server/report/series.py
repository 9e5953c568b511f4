"""From the events of a run to plain series: every figure that the report draws or prints, and nothing else.

Pure functions over a list of events. A figure that the events do not hold is absent (an empty tuple or None), never
guessed, so a run with one round, without DP or without a test set gives fewer series and not wrong ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fl_core.runlog import Event

ACCURACIES: Mapping[str, str] = {
    "accuracy_float": "float",
    "accuracy_fake_quant": "fake-quant",
    "accuracy_int8": "int8 in its runtime",
}
"""The three accuracies of an evaluation record, with the name that a reader sees."""

MISHAPS: Mapping[str, str] = {
    "client_failed": "failed",
    "client_refused": "refused by the client",
    "client_rejected": "rejected by the server",
    "client_missing": "no answer in time",
    "artifact_vetoed": "artefact vetoed",
}
"""Kinds of events that say that something was left out, with the words of the report."""


@dataclass(frozen=True)
class Line:
    """One named series over rounds, where round 0 is the untrained model, or over seconds."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class ClientAccuracy:
    """The last accuracies of one client on its own held-out examples."""

    client_id: str
    examples: int
    accuracy_float: float | None
    accuracy_int8: float | None

    @property
    def accuracy(self) -> float | None:
        """The artefact's accuracy, or the float model's where there is no artefact."""
        return self.accuracy_float if self.accuracy_int8 is None else self.accuracy_int8


@dataclass(frozen=True)
class PublishedArtifact:
    """One artefact that passed its gate."""

    round: int
    format: str
    weight_bits: int | None
    """The width of the clients that it is for; None where the run does not say."""
    path: str
    bytes: int
    bytes_float: int
    examples: int
    top1_agreement: float | None
    """None where the outputs are no classes."""
    max_lsb: float
    exact_fraction: float


@dataclass(frozen=True)
class Width:
    """What a fleet of several weight widths has for one of them."""

    weight_bits: int
    clients: tuple[str, ...]
    """Who trains at it, of those that were there at the start."""
    accuracy_fake_quant: float | None
    accuracy_int8: float | None
    artifacts: tuple[PublishedArtifact, ...]
    """The last good one of every format."""


@dataclass(frozen=True)
class Mishap:
    """Something that was left out of a round, with the reason that the event gives."""

    round: int
    what: str
    who: str
    reason: str


def of_kind(events: Sequence[Event], kind: str) -> list[Event]:
    """The events of one kind, in order."""
    return [event for event in events if event["kind"] == kind]


def start_of(events: Sequence[Event]) -> Event:
    """The event that opened the run; an empty one where a crash came before it."""
    started = of_kind(events, "run_started")
    return started[-1] if started else {}


def metric_name(events: Sequence[Event]) -> str:
    """What the evaluation measures, "accuracy" unless the task says otherwise."""
    return str((start_of(events).get("data") or {}).get("metric") or "accuracy")


def evaluations(events: Sequence[Event]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(round, evaluation record) on the server's test set, the untrained model first."""
    initial = start_of(events).get("initial")
    if initial:
        yield 0, initial
    for event in of_kind(events, "round_finished"):
        if event["evaluation"]:
            yield event["round"], event["evaluation"]


def accuracy_lines(events: Sequence[Event]) -> tuple[Line, ...]:
    """Accuracy per round: float, fake-quant, int8 in its runtime; a line without points is left out."""
    records = list(evaluations(events))
    lines = (
        Line(name, tuple((number, record[key]) for number, record in records if record.get(key) is not None))
        for key, name in ACCURACIES.items()
    )
    return tuple(line for line in lines if line.points)


def epsilon_lines(events: Sequence[Event]) -> tuple[Line, ...]:
    """Cumulative epsilon of every client after each round in which it spent; sorted by client."""
    points: dict[str, list[tuple[float, float]]] = {}
    for event in of_kind(events, "client_finished"):
        if event["epsilon"] is not None:
            points.setdefault(event["client_id"], []).append((event["round"], event["epsilon"]))
    return tuple(Line(client_id, tuple(points[client_id])) for client_id in sorted(points))


def merge_alike(lines: Sequence[Line]) -> tuple[Line, ...]:
    """One line for all that lie on each other, named by how many they are."""
    names: dict[tuple[tuple[float, float], ...], list[str]] = {}
    for line in lines:
        names.setdefault(line.points, []).append(line.name)
    if len(names) == 1 < len(lines):
        return (Line(f"all {len(lines)} clients", lines[0].points),)
    return tuple(
        Line(alike[0] if len(alike) == 1 else f"{alike[0]} and {len(alike) - 1} more", points)
        for points, alike in names.items()
    )


def client_accuracies(events: Sequence[Event]) -> tuple[ClientAccuracy, ...]:
    """The last accuracy of every client on its own held-out examples, worst first; clients without any are left out."""
    last = {
        event["client_id"]: ClientAccuracy(
            event["client_id"], event["examples"], event["accuracy_float"], event["accuracy_int8"]
        )
        for event in of_kind(events, "client_evaluated")
    }
    known = [(row.accuracy, row.client_id, row) for row in last.values() if row.accuracy is not None]
    return tuple(row for _, _, row in sorted(known, key=lambda item: item[:2]))


def personal_scores(events: Sequence[Event]) -> tuple[tuple[str, float], ...]:
    """(client, score of its own model on its own held-out examples) after its last round, worst first."""
    last = {event["client_id"]: event.get("personal_score") for event in of_kind(events, "client_trained")}
    known = [(score, client_id) for client_id, score in last.items() if score is not None]
    return tuple((client_id, float(score)) for score, client_id in sorted(known))


def traffic_lines(events: Sequence[Event]) -> tuple[Line, ...]:
    """Bytes up and bytes down of every round."""
    rounds = of_kind(events, "round_finished")
    if not rounds:
        return ()
    return (
        Line("up (clients to server)", tuple((event["round"], event["uplink_bytes"]) for event in rounds)),
        Line("down (server to clients)", tuple((event["round"], event["downlink_bytes"]) for event in rounds)),
    )


def published_artifacts(events: Sequence[Event]) -> tuple[PublishedArtifact, ...]:
    """Every artefact that passed its gate, in order."""
    return tuple(
        PublishedArtifact(
            event["round"], event["format"], event.get("weight_bits"), event["path"],
            event["bytes"], event["bytes_float"],
            event["parity"]["examples"], event["parity"]["top1_agreement"],
            event["parity"]["max_lsb"], event["parity"]["exact_fraction"],
        )
        for event in of_kind(events, "artifact_published")
    )  # fmt: skip


def last_artifacts(events: Sequence[Event]) -> tuple[PublishedArtifact, ...]:
    """The last good artefact of every format and width."""
    return tuple({(a.weight_bits, a.format): a for a in published_artifacts(events)}.values())


def main_artifact(events: Sequence[Event]) -> PublishedArtifact | None:
    """The last good artefact of the width of ``quant.weight_bits``, whose accuracy the run is known by."""
    main = start_of(events).get("weight_bits")
    return next((a for a in reversed(published_artifacts(events)) if a.weight_bits == main), None)


def widths(events: Sequence[Event]) -> tuple[Width, ...]:
    """Every width of a fleet that has several, the main one first; empty in a fleet of one."""
    start = start_of(events)
    client_bits: Mapping[str, int] = start.get("client_bits") or {}
    if not client_bits:
        return ()
    main: int = start["weight_bits"]
    others = sorted({*client_bits.values()} - {main}, reverse=True)
    return tuple(
        Width(
            bits,
            tuple(name for name in start["clients"] if client_bits.get(name, main) == bits),
            _newest(events, bits, "accuracy_fake_quant"),
            _newest(events, bits, "accuracy_int8"),
            tuple(artifact for artifact in last_artifacts(events) if artifact.weight_bits == bits),
        )
        for bits in ([main, *others] if others else [])
    )


def named(format: str, weight_bits: int | None) -> str:
    """An artefact in words: its format, and its width where that is not 8 bits."""
    return format if weight_bits in (None, 8) else f"{format}, {weight_bits}-bit weights"


def mishaps(events: Sequence[Event]) -> tuple[Mishap, ...]:
    """All clients and artefacts that were left out of a round, with the reasons, in order."""
    return tuple(
        Mishap(event["round"], MISHAPS[event["kind"]], event.get("client_id") or _which(event), event["reason"])
        for event in events
        if event["kind"] in MISHAPS
    )


def _newest(events: Sequence[Event], bits: int, figure: str) -> float | None:
    """A figure of one width, from the last round that has it."""
    found = [(record.get("widths") or {}).get(str(bits)) or {} for _, record in evaluations(events)]
    return next((record[figure] for record in reversed(found) if record.get(figure) is not None), None)


def _which(event: Event) -> str:
    return named(event["format"], event.get("weight_bits"))


def last_evaluation(events: Sequence[Event]) -> Mapping[str, Any]:
    """The newest accuracies after training, each from the last round that has it; a veto leaves the last good one's."""
    merged: dict[str, Any] = {}
    for record in (record for number, record in evaluations(events) if number > 0):
        kept_groups = merged.get("groups")
        merged.update({key: value for key, value in record.items() if value is not None})
        if record.get("accuracy_int8") is None and kept_groups is not None:
            merged["groups"] = kept_groups
    return merged


def user_epsilon(events: Sequence[Event]) -> float | None:
    """What one whole client has spent at the server so far, or None without noise for whole clients."""
    spent = [event.get("user_epsilon") for event in of_kind(events, "round_finished")]
    return max((float(epsilon) for epsilon in spent if epsilon is not None), default=None)


def named_seeds(events: Sequence[Event]) -> bool:
    """Whether a board drew its noise from named seeds, in a run under DP that is no simulation: no epsilon holds."""
    privacy = start_of(events).get("privacy")
    if privacy is None:
        return False
    untold = any(event["epsilon"] is None for event in of_kind(events, "client_finished"))
    return untold or bool(privacy.get("named_seeds"))


def epsilon_max(events: Sequence[Event]) -> float | None:
    """The largest epsilon that any client has spent so far, or None without DP and where none holds."""
    if named_seeds(events):
        return None
    spent = [event["epsilon_max"] for event in of_kind(events, "round_finished")]
    spent += [event["epsilon"] for event in of_kind(events, "client_finished")]
    return max((float(epsilon) for epsilon in spent if epsilon is not None), default=None)


def seconds(events: Sequence[Event]) -> float:
    """Wall time of the run: that of its rounds, which resumptions add to, or that of the whole process if longer."""
    finished = of_kind(events, "run_finished")
    rounds = float(sum(event["seconds"] for event in of_kind(events, "round_finished")))
    return max(rounds, float(finished[-1]["seconds"]) if finished else 0.0)


def rounds_done(events: Sequence[Event]) -> int:
    """Number of the last finished round."""
    return max((int(event["round"]) for event in of_kind(events, "round_finished")), default=0)
