"""What a run's state consists of: a round, a client, an artefact, and whatever was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fl_core.runlog import Event
from fl_server.watch.accuracy import best_accuracy

MISHAPS: Mapping[str, str] = {
    "client_failed": "failed",
    "client_refused": "refused by the client",
    "client_rejected": "rejected by the server",
    "client_missing": "no answer in time",
    "artifact_vetoed": "artefact vetoed",
}
"""Kinds of events that say that something was left out of a round, with their names for a reader."""


@dataclass
class RoundState:
    """One round: who was asked, who answered, what it cost and how good its model is."""

    number: int
    cohort: int = 0
    """Clients that were asked at its start."""
    answered: int = 0
    """Updates that were summed since."""
    left_out: int = 0
    """Clients that were left out since."""
    started_at: float | None = None
    """Unix time in seconds."""
    finished_at: float | None = None
    """Unix time in seconds."""
    finished: bool = False
    seconds: float = 0.0
    """Wall time from its start to its end."""
    virtual_s: float | None = None
    """Seconds on the virtual clock of a simulation at its end, from the start of the run; None without such a clock."""
    uplink_bytes: int = 0
    downlink_bytes: int = 0
    user_epsilon: float | None = None
    """What one whole client has spent at the server by its end; None without noise for whole clients."""
    clipped: Mapping[str, float] | None = None
    """The share of each activation's values that its range cuts off; None where nobody looked."""
    measured: Mapping[str, Any] | None = None
    """The evaluation as the end of the round told it, at which its artefacts may not have been made yet."""
    published: Mapping[str, Any] | None = None
    """The evaluation as publishing its artefacts told it; None where that has not ended, or measured nothing."""

    @property
    def evaluation(self) -> Mapping[str, Any] | None:
        """The complete evaluation: that of publishing where there is one, else that of the round's end."""
        return self.published or self.measured or None


@dataclass(frozen=True)
class ClientAccuracy:
    """Accuracies on one client's own held-out examples, of the model after a round."""

    client_id: str
    round: int
    examples: int
    accuracy_float: float | None
    accuracy_int8: float | None
    confusion: Sequence[Sequence[int]] | None = None
    """Counts [true class][answered class]; after the last round, where the server has no test set."""

    @property
    def accuracy(self) -> float | None:
        """The artefact's accuracy, or the float model's where there is no artefact."""
        return best_accuracy({"accuracy_int8": self.accuracy_int8, "accuracy_float": self.accuracy_float})


@dataclass
class ClientState:
    """One client: when it was heard of last, what it sent and what it has spent."""

    client_id: str
    last_seen: float | None = None
    """Unix time in seconds of its newest answer, or of the run's start before there is one."""
    last_round: int | None = None
    """The round of its newest answer."""
    updates: list[tuple[int, float | None]] = field(default_factory=list)
    """(round, epsilon spent so far) of each update that was summed; the epsilon is None where it tells none."""
    left_out: int = 0
    """How often it was left out of a round."""
    evaluated: ClientAccuracy | None = None
    """The newest; in a simulation alone."""
    examples: int | None = None
    """That it trains on; in a simulation alone, for under DP not even their number leaves a device."""
    personal_score: float | None = None
    """Score of its own model on its own held-out examples at its newest update; in a simulation alone."""

    @property
    def epsilon(self) -> float | None:
        """What its newest update told that it has spent; None before the first, and where it tells none."""
        return self.updates[-1][1] if self.updates else None


@dataclass(frozen=True)
class PublishedArtifact:
    """One artefact that passed its gate."""

    round: int
    format: str
    weight_bits: int | None
    """The width of the clients that it is for; None where the run does not say."""
    path: str
    """The path of its entry file, from the run folder."""
    bytes: int
    bytes_float: int
    """Bytes of its float32 twin."""
    examples: int | None
    """On which it was compared with the fake-quant forward; None, as all that follows, where its device alone can."""
    top1_agreement: float | None
    """None where the outputs are no classes, too."""
    max_lsb: int | None
    exact_fraction: float | None
    float_kernels: int
    """Convolutions and matrix products that it computes in float."""

    @classmethod
    def of(cls, event: Event) -> PublishedArtifact:
        """The artefact of an event ``artifact_published``."""
        parity, kernels = event["parity"] or {}, event.get("kernels") or {}
        return cls(
            round=event["round"],
            format=event["format"],
            weight_bits=event.get("weight_bits"),
            path=event["path"],
            bytes=event["bytes"],
            bytes_float=event["bytes_float"],
            examples=parity.get("examples"),
            top1_agreement=parity.get("top1_agreement"),
            max_lsb=parity.get("max_lsb"),
            exact_fraction=parity.get("exact_fraction"),
            float_kernels=sum((kernels.get("float_kernels") or {}).values()),
        )


@dataclass(frozen=True)
class Mishap:
    """A client or an artefact that was left out of a round, with the reason that the event gives."""

    round: int
    kind: str
    """The kind of the event: a key of ``MISHAPS``."""
    who: str
    """A client_id, or an artefact's format and width."""
    reason: str
    time: float | None
    """Unix time in seconds."""

    @classmethod
    def of(cls, event: Event) -> Mishap:
        """The mishap of an event whose kind is in ``MISHAPS``."""
        who = event.get("client_id") or artifact_name(event["format"], event.get("weight_bits"))
        return cls(event["round"], event["kind"], who, event["reason"], event.get("time"))

    @property
    def what(self) -> str:
        """What happened, in words."""
        return MISHAPS[self.kind]


def artifact_name(format: str, weight_bits: int | None) -> str:
    """An artefact in words: its format, and its width where that is not 8 bits."""
    return format if weight_bits in (None, 8) else f"{format}, {weight_bits}-bit weights"
