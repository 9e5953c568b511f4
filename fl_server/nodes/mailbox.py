"""Asking nodes over Flower's Grid: push, poll until everyone answered or their deadlines are over.

Replies are handed on one by one as they come in, so a round never holds a list of updates. Polling starts quick and
slows down; nothing here waits for a node that is gone, and a message that got lost is sent again. Time is the wall's,
or that of a simulator's Grid, which keeps its own and loses nothing.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fl_server.nodes.clock import LeavingGrid, TimedGrid, clock_of
from fl_server.nodes.liveness import SILENT_S, Liveness

logger = logging.getLogger(__name__)

Content = RecordDict
"""What a message carries."""

_FIRST_WAIT_S, _LONGEST_WAIT_S, _GROWTH = 0.01, 1.0, 1.5
_NODE_UNAVAILABLE = 5
"""Flower's code for a node whose heartbeat has run out."""
_SPARE_S = 60.0
"""A message outlives its deadline by this much, so that a late reply is told from none."""


@dataclass(frozen=True)
class Reply:
    """What came back from one node: content, or the reason why there is none."""

    node_id: int
    content: RecordDict | None
    failure: str = ""
    missing: bool = False
    """True when the node said nothing before the deadline."""
    away: bool = False
    """True when the node was not connected any more; it may come back."""
    seconds: float = 0.0
    """From being asked to being answered."""


@dataclass(frozen=True)
class _Asked:
    node_id: int
    message_type: str
    group_id: str
    again: Callable[[int], RecordDict]
    sent_s: float
    deadline_s: float

    @property
    def ends_s(self) -> float:
        return self.sent_s + self.deadline_s

    def message(self, content: RecordDict, now_s: float) -> Message:
        ttl = self.ends_s - now_s + _SPARE_S
        return Message(content, self.node_id, self.message_type, group_id=self.group_id, ttl=ttl)


class Mailbox:
    """Messages that are under way, each with a deadline of its own; to a node there is one at a time."""

    def __init__(self, grid: Grid) -> None:
        self.clock = clock_of(grid)
        self._grid = grid
        self._knocks = Liveness(grid, math.inf if isinstance(grid, TimedGrid) else SILENT_S)
        self._open: dict[str, _Asked] = {}
        self._unsent: list[Reply] = []
        self._wait_s = _FIRST_WAIT_S

    @property
    def open_nodes(self) -> set[int]:
        """The nodes whose answers are awaited."""
        return {asked.node_id for asked in self._open.values()}

    def send(
        self,
        message_type: str,
        contents: Mapping[int, RecordDict],
        group_id: str,
        deadline_s: float,
        again: Callable[[int], RecordDict] | None = None,
    ) -> None:
        """Send each node its content; every one of them appears once in what ``collect`` gives, then or later.

        A message that is lost on its way is sent again before its deadline, with what ``again`` gives for the node;
        without it ``contents`` is kept for that.
        """
        now_s, again = self.clock.now_s(), again or contents.__getitem__
        fresh = [_Asked(node_id, message_type, group_id, again, now_s, deadline_s) for node_id in contents]
        self._push([(asked, contents[asked.node_id]) for asked in fresh])
        self._wait_s = _FIRST_WAIT_S

    def collect(self) -> list[Reply]:
        """What is there now, without waiting; a node whose deadline is over has its say as a missing one."""
        replies, self._unsent = self._unsent, []
        now_s = self.clock.now_s()
        lost: set[int] = set()
        for message in self._grid.pull_messages([*self._open, *self._knocks.message_ids]) if self._open else ():
            # A node that became unreachable answers as node 1: only the message id says who was asked.
            asked = self._open.pop(message.metadata.reply_to_message_id, None)
            if asked is not None:
                replies.append(_read(asked, message, now_s))
                if not message.has_error():
                    self._knocks.answered(replies[-1].seconds)
            elif (node_id := self._knocks.lost(message)) is not None:
                lost.add(node_id)
        self._send_again(lost)
        if not replies:
            overdue = {key: asked for key, asked in self._open.items() if asked.ends_s <= now_s}
            self._leave(overdue)
            replies = [
                Reply(a.node_id, None, f"no answer within {a.deadline_s:g} s", missing=True, seconds=a.deadline_s)
                for a in overdue.values()
            ]
        self._tell_grid(self._knocks.end(reply.node_id for reply in replies))
        self._knocks.knock(now_s)
        self._wait_s = _FIRST_WAIT_S if replies else min(self._wait_s * _GROWTH, _LONGEST_WAIT_S)
        return replies

    def wait(self, until_s: float) -> None:
        """Let a moment pass, never beyond ``until_s`` or the next deadline."""
        self.clock.pause(self._wait_s, min([until_s, *(asked.ends_s for asked in self._open.values())]))

    def close(self) -> None:
        """Wait for nothing more."""
        self._tell_grid(self._knocks.end(self.open_nodes))
        self._leave(dict(self._open))

    def _push(self, messages: Sequence[tuple[_Asked, RecordDict]]) -> None:
        now_s = self.clock.now_s()
        keys = self._grid.push_messages([asked.message(content, now_s) for asked, content in messages])
        for key, (asked, _) in zip(keys, messages, strict=True):
            if key:
                self._open[key] = asked
                self._knocks.begin(asked.node_id, now_s)
            else:
                self._unsent.append(Reply(asked.node_id, None, "the message could not be sent", missing=True))

    def _send_again(self, node_ids: set[int]) -> None:
        lost = {key: asked for key, asked in self._open.items() if asked.node_id in node_ids}
        self._leave(lost)
        for asked in lost.values():
            logger.warning("node %d: its %s message was lost, and is sent again", asked.node_id, asked.message_type)
        self._push([(asked, asked.again(asked.node_id)) for asked in lost.values()])

    def _leave(self, messages: Mapping[str, _Asked]) -> None:
        for key in messages:
            del self._open[key]
        self._tell_grid(messages)

    def _tell_grid(self, message_ids: Iterable[str]) -> None:
        if isinstance(self._grid, LeavingGrid):
            self._grid.leave(message_ids)


def ask(
    grid: Grid, message_type: str, contents: Mapping[int, RecordDict], group_id: str, deadline_s: float
) -> Generator[Reply, None, None]:
    """Send each node its content and give every node's reply once, the missing ones last.

    Whoever stops early closes the iterator: the nodes that are still at work are then waited for no longer.
    """
    mail = Mailbox(grid)
    mail.send(message_type, contents, group_id, deadline_s)
    left = len(contents)
    try:
        while left:
            replies = mail.collect()
            left -= len(replies)
            yield from replies
            if left and not replies:
                mail.wait(float("inf"))
    finally:
        mail.close()


def _read(asked: _Asked, message: Message, now_s: float) -> Reply:
    seconds = now_s - asked.sent_s
    if message.has_error():
        words = f"error {message.error.code}: {message.error.reason}"
        return Reply(asked.node_id, None, words, away=message.error.code == _NODE_UNAVAILABLE, seconds=seconds)
    return Reply(asked.node_id, message.content, seconds=seconds)
