"""Asking nodes over an exchange: push, poll until everyone answered or their deadlines are over.

Replies are handed on one by one as they come in, so a round never holds a list of updates. Polling starts quick and
slows down; nothing here waits for a node that is gone, and a message that got lost is sent again. Time is the
exchange's: the wall's, or that of a simulated fleet, which keeps its own and loses nothing.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from fl_core.questions import Question
from fl_core.wire import Content
from fl_server.nodes.clock import WallClock
from fl_server.nodes.exchange import Exchange, Incoming, Outgoing
from fl_server.nodes.liveness import SILENT_S, Liveness

logger = logging.getLogger(__name__)

_FIRST_WAIT_S, _LONGEST_WAIT_S, _GROWTH = 0.01, 1.0, 1.5
_SPARE_S = 60.0
"""A message outlives its deadline by this much, so that a late reply is told from none."""


@dataclass(frozen=True)
class Reply:
    """What came back from one node: content, or the reason why there is none."""

    node_id: int
    content: Content | None
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
    question: Question
    group_id: str
    again: Callable[[int], Content]
    sent_s: float
    deadline_s: float

    @property
    def ends_s(self) -> float:
        return self.sent_s + self.deadline_s

    def message(self, content: Content, now_s: float) -> Outgoing:
        return Outgoing(self.node_id, self.question, content, self.ends_s - now_s + _SPARE_S, self.group_id)


class Mailbox:
    """Messages that are under way, each with a deadline of its own; to a node there is one at a time."""

    def __init__(self, exchange: Exchange) -> None:
        self.clock = exchange.clock
        self._exchange = exchange
        # Whoever keeps a time of its own loses nothing, so that nobody's silence means anything.
        self._liveness = Liveness(exchange, SILENT_S if isinstance(self.clock, WallClock) else math.inf)
        self._open: dict[str, _Asked] = {}
        self._unsent: list[Reply] = []
        self._wait_s = _FIRST_WAIT_S

    @property
    def open_nodes(self) -> set[int]:
        """The nodes whose answers are awaited."""
        return {asked.node_id for asked in self._open.values()}

    def send(
        self,
        question: Question,
        contents: Mapping[int, Content],
        group_id: str,
        deadline_s: float,
        again: Callable[[int], Content] | None = None,
    ) -> None:
        """Send each node its content; every one of them appears once in what ``collect`` gives, then or later.

        A message that is lost on its way is sent again before its deadline, with what ``again`` gives for the node;
        without it ``contents`` is kept for that.
        """
        now_s, again = self.clock.now_s(), again or contents.__getitem__
        fresh = [_Asked(node_id, question, group_id, again, now_s, deadline_s) for node_id in contents]
        self._push([(asked, contents[asked.node_id]) for asked in fresh])
        self._wait_s = _FIRST_WAIT_S

    def collect(self) -> list[Reply]:
        """What is there now, without waiting; a node whose deadline is over has its say as a missing one."""
        replies, self._unsent = self._unsent, []
        now_s = self.clock.now_s()
        lost: set[int] = set()
        for answer in self._exchange.pull([*self._open, *self._liveness.keys]) if self._open else ():
            asked = self._open.pop(answer.key, None)
            if asked is not None:
                replies.append(_read(asked, answer, now_s))
                if answer.content is not None:
                    self._liveness.answered(replies[-1].seconds)
            elif (node_id := self._liveness.lost(answer)) is not None:
                lost.add(node_id)
        self._send_again(lost)
        if not replies:
            overdue = {key: asked for key, asked in self._open.items() if asked.ends_s <= now_s}
            self._leave(overdue)
            replies = [
                Reply(a.node_id, None, f"no answer within {a.deadline_s:g} s", missing=True, seconds=a.deadline_s)
                for a in overdue.values()
            ]
        self._exchange.leave(self._liveness.end(reply.node_id for reply in replies))
        self._liveness.ask_silent(now_s)
        self._wait_s = _FIRST_WAIT_S if replies else min(self._wait_s * _GROWTH, _LONGEST_WAIT_S)
        return replies

    def wait(self, until_s: float) -> None:
        """Let a moment pass, never beyond ``until_s`` or the next deadline."""
        self.clock.pause(self._wait_s, min([until_s, *(asked.ends_s for asked in self._open.values())]))

    def close(self) -> None:
        """Wait for nothing more."""
        self._exchange.leave(self._liveness.end(self.open_nodes))
        self._leave(dict(self._open))

    def _push(self, messages: Sequence[tuple[_Asked, Content]]) -> None:
        now_s = self.clock.now_s()
        keys = self._exchange.push([asked.message(content, now_s) for asked, content in messages])
        for key, (asked, _) in zip(keys, messages, strict=True):
            if key:
                self._open[key] = asked
                self._liveness.begin(asked.node_id, now_s)
            else:
                self._unsent.append(Reply(asked.node_id, None, "the message could not be sent", missing=True))

    def _send_again(self, node_ids: set[int]) -> None:
        lost = {key: asked for key, asked in self._open.items() if asked.node_id in node_ids}
        self._leave(lost)
        for asked in lost.values():
            logger.warning("node %d: its %s message was lost, and is sent again", asked.node_id, asked.question.name)
        self._push([(asked, asked.again(asked.node_id)) for asked in lost.values()])

    def _leave(self, messages: Mapping[str, _Asked]) -> None:
        for key in messages:
            del self._open[key]
        self._exchange.leave(messages)


def ask(
    exchange: Exchange, question: Question, contents: Mapping[int, Content], group_id: str, deadline_s: float
) -> Generator[Reply, None, None]:
    """Send each node its content and give every node's reply once, the missing ones last.

    Whoever stops early closes the iterator: the nodes that are still at work are then waited for no longer.
    """
    with closing(ask_in_batches(exchange, question, contents, group_id, deadline_s)) as batches:
        for batch in batches:
            yield from batch


def ask_in_batches(
    exchange: Exchange, question: Question, contents: Mapping[int, Content], group_id: str, deadline_s: float
) -> Generator[Sequence[Reply], None, None]:
    """As ``ask``, with all the replies together that were there at the same look; there is one at least in each."""
    mail = Mailbox(exchange)
    mail.send(question, contents, group_id, deadline_s)
    left = len(contents)
    try:
        while left:
            replies = mail.collect()
            left -= len(replies)
            if replies:
                yield replies
            elif left:
                mail.wait(float("inf"))
    finally:
        mail.close()


def _read(asked: _Asked, answer: Incoming, now_s: float) -> Reply:
    seconds = now_s - asked.sent_s
    return Reply(asked.node_id, answer.content, answer.failure, away=answer.away, seconds=seconds)
