"""Flower's Grid as an ``Exchange``: a ServerApp's, which reaches boards, or a simulator's in this process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from flwr.app import Message
from flwr.serverapp import Grid

from fl_server.nodes.clock import Clock, WallClock
from fl_server.nodes.exchange import Incoming, Outgoing

_CLIENT_APP_RAISED = 2
"""Flower's code for a node whose app raised; the reason says what."""
_NODE_UNAVAILABLE = 5
"""Flower's code for a node whose heartbeat has run out."""


@runtime_checkable
class LeavingGrid(Protocol):
    """A Grid that wants to know what nobody waits for any more."""

    def leave(self, message_ids: Iterable[str]) -> None:
        """Nobody will ask for the replies to these messages."""


@runtime_checkable
class TimedGrid(LeavingGrid, Protocol):
    """A Grid with a time of its own, that works off what nobody waits for any more, as real nodes would."""

    clock: Clock


class FlowerExchange:
    """``grid`` as the round loop sees it; time is the wall's unless the Grid keeps its own."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._clock = grid.clock if isinstance(grid, TimedGrid) else WallClock()

    @property
    def clock(self) -> Clock:
        """The clock of the Grid where it keeps one, else the wall's."""
        return self._clock

    def push(self, messages: Sequence[Outgoing]) -> list[str | None]:
        """Push messages over the Grid; gives the key of each, None for one that could not be sent."""
        keys = self._grid.push_messages([_message(each) for each in messages])
        return [key or None for key in keys]

    def pull(self, keys: Iterable[str]) -> list[Incoming]:
        """Replies that are there now to the messages of these keys."""
        return [_incoming(message) for message in self._grid.pull_messages(keys)]

    def nodes(self) -> set[int]:
        """The nodes that are connected now."""
        return set(self._grid.get_node_ids())

    def leave(self, keys: Iterable[str]) -> None:
        """Nobody will ask for the replies to these messages; a Grid that does not care is not told."""
        if isinstance(self._grid, LeavingGrid):
            self._grid.leave(keys)


def _message(outgoing: Outgoing) -> Message:
    return Message(
        outgoing.content,
        outgoing.node_id,
        outgoing.question.message_type,
        group_id=outgoing.group_id,
        ttl=outgoing.keep_s,
    )


def _incoming(message: Message) -> Incoming:
    # A node that became unreachable answers as node 1: only the message id says who was asked.
    key = message.metadata.reply_to_message_id
    if not message.has_error():
        return Incoming(key, message.content)
    words = f"error {message.error.code}: {message.error.reason}"
    if message.error.code == _CLIENT_APP_RAISED and message.error.reason:
        words = message.error.reason
    return Incoming(key, None, words, away=message.error.code == _NODE_UNAVAILABLE)
