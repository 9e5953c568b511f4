"""What the round loop knows of the way to its nodes: four methods and a clock, and nothing of who carries messages.

Questions go out, and what comes back to them is pulled; nobody is waited for in here. Content is opaque: it is packed
and read by ``fl_core.wire``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fl_core.questions import Question
from fl_core.wire import Content
from fl_server.nodes.clock import Clock


@dataclass(frozen=True)
class Outgoing:
    """A question to one node."""

    node_id: int
    question: Question
    content: Content
    keep_s: float
    """How long it may lie around: after that many seconds nobody carries it, or a reply to it, any more."""
    group_id: str = ""
    """Equal for all messages of one request; a simulated fleet draws the order of arrival by it."""


@dataclass(frozen=True)
class Incoming:
    """What has come back to a question: content, or the reason why there is none."""

    key: str
    """What ``push`` gave for the question."""
    content: Content | None
    failure: str = ""
    away: bool = False
    """True when the node was not connected any more; it may come back."""


class Exchange(Protocol):
    """Messages between a server and its nodes."""

    @property
    def clock(self) -> Clock:
        """What deadlines go by."""
        ...

    def push(self, messages: Sequence[Outgoing]) -> list[str | None]:
        """Send questions; the key of each, in order, and None for one that could not be sent."""
        ...

    def pull(self, keys: Iterable[str]) -> list[Incoming]:
        """What is there by now of the answers to these questions, each once."""
        ...

    def nodes(self) -> set[int]:
        """The nodes that are connected now."""
        ...

    def leave(self, keys: Iterable[str]) -> None:
        """Nobody will pull the answers to these questions."""
        ...
