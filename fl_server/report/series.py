"""From a run's state to plain series: the lines and rows that the report draws and prints, and that a comparison reads.

Pure functions over a ``RunState``. A figure that the run does not have is absent (an empty tuple or None), never
guessed, so a run with one round, without DP or without a test set gives fewer series and not wrong ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fl_server.watch.accuracy import ACCURACIES
from fl_server.watch.records import ClientAccuracy, PublishedArtifact
from fl_server.watch.state import RunState


@dataclass(frozen=True)
class Line:
    """One named series over rounds, where round 0 is the untrained model, or over seconds."""

    name: str
    points: tuple[tuple[float, float], ...]


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


def accuracy_lines(state: RunState) -> tuple[Line, ...]:
    """Accuracy per round: float, fake-quant, int8 in its runtime; a line without points is left out."""
    records = list(state.evaluations())
    lines = (
        Line(name, tuple((number, record[form]) for number, record in records if record.get(form) is not None))
        for form, name in ACCURACIES.items()
    )
    return tuple(line for line in lines if line.points)


def last_evaluation(state: RunState) -> Mapping[str, Any]:
    """The newest accuracies after training, each from the last round that has it; a veto leaves the last good one's."""
    merged: dict[str, Any] = {}
    for record in (record for number, record in state.evaluations() if number > 0):
        kept_groups = merged.get("groups")
        merged.update({key: value for key, value in record.items() if value is not None})
        if record.get("accuracy_int8") is None and kept_groups is not None:
            merged["groups"] = kept_groups
    return merged


def epsilon_lines(state: RunState) -> tuple[Line, ...]:
    """Cumulative epsilon of every client after each round in which it spent; sorted by client."""
    lines = (
        Line(name, tuple((number, epsilon) for number, epsilon in client.updates if epsilon is not None))
        for name, client in sorted(state.clients.items())
    )
    return tuple(line for line in lines if line.points)


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


def client_accuracies(state: RunState) -> tuple[ClientAccuracy, ...]:
    """The last accuracy of every client on its own held-out examples, worst first; clients without any are left out."""
    last = [client.evaluated for client in state.clients.values() if client.evaluated is not None]
    known = [(row.accuracy, row.client_id, row) for row in last if row.accuracy is not None]
    return tuple(row for _, _, row in sorted(known, key=lambda item: item[:2]))


def personal_scores(state: RunState) -> tuple[tuple[str, float], ...]:
    """(client, score of its own model on its own held-out examples) after its last round, worst first."""
    clients = state.clients.items()
    known = [(client.personal_score, name) for name, client in clients if client.personal_score is not None]
    return tuple((name, float(score)) for score, name in sorted(known))


def traffic_lines(state: RunState) -> tuple[Line, ...]:
    """Bytes up and bytes down of every round."""
    rounds = state.finished_rounds()
    if not rounds:
        return ()
    return (
        Line("up (clients to server)", tuple((each.number, each.uplink_bytes) for each in rounds)),
        Line("down (server to clients)", tuple((each.number, each.downlink_bytes) for each in rounds)),
    )


def last_artifacts(state: RunState) -> tuple[PublishedArtifact, ...]:
    """The last good artefact of every format and width."""
    return tuple({(a.weight_bits, a.format): a for a in state.artifacts}.values())


def main_artifact(state: RunState) -> PublishedArtifact | None:
    """The last good artefact of the width of ``quant.weight_bits``, whose accuracy the run is known by."""
    main = state.start.get("weight_bits")
    return next((a for a in reversed(state.artifacts) if a.weight_bits == main), None)


def widths(state: RunState) -> tuple[Width, ...]:
    """Every width of a fleet that has several, the main one first; empty in a fleet of one."""
    client_bits: Mapping[str, int] = state.start.get("client_bits") or {}
    if not client_bits:
        return ()
    main: int = state.start["weight_bits"]
    others = sorted({*client_bits.values()} - {main}, reverse=True)
    return tuple(
        Width(
            bits,
            tuple(name for name in state.start["clients"] if client_bits.get(name, main) == bits),
            _newest(state, bits, "accuracy_fake_quant"),
            _newest(state, bits, "accuracy_int8"),
            tuple(artifact for artifact in last_artifacts(state) if artifact.weight_bits == bits),
        )
        for bits in ([main, *others] if others else [])
    )


def _newest(state: RunState, bits: int, figure: str) -> float | None:
    """A figure of one width, from the last round that has it."""
    found = [(record.get("widths") or {}).get(str(bits)) or {} for _, record in state.evaluations()]
    return next((record[figure] for record in reversed(found) if record.get(figure) is not None), None)
