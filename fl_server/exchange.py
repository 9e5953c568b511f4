"""Asking many nodes at once over Flower's Grid: push, poll until everyone answered or the deadline is over.

Replies are handed on one by one as they come in, so a round never holds a list of updates. Polling starts quick and
slows down; nothing here waits for a node that is gone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

_FIRST_WAIT_S, _LONGEST_WAIT_S, _GROWTH = 0.01, 1.0, 1.5


@dataclass(frozen=True)
class Reply:
    """What came back from one node: content, or the reason why there is none."""

    node_id: int
    content: RecordDict | None
    failure: str = ""
    missing: bool = False
    """True when the node said nothing before the deadline."""


def ask(
    grid: Grid, message_type: str, contents: Mapping[int, RecordDict], group_id: str, deadline_s: float
) -> Iterator[Reply]:
    """Send each node its content and give every node's reply once, the missing ones last."""
    messages = [
        Message(content, node_id, message_type, group_id=group_id, ttl=deadline_s + 60)
        for node_id, content in contents.items()
    ]
    ends = time.monotonic() + deadline_s
    pushed = list(zip(grid.push_messages(messages), contents, strict=True))
    unsent = [node_id for message_id, node_id in pushed if not message_id]
    waiting = {message_id: node_id for message_id, node_id in pushed if message_id}
    wait_s = _FIRST_WAIT_S
    while waiting and time.monotonic() < ends:
        replies = list(grid.pull_messages(list(waiting)))
        for reply in replies:
            # A node that became unreachable answers as node 1: only the message id says who was asked.
            node_id = waiting.pop(reply.metadata.reply_to_message_id, None)
            if node_id is not None:
                yield _read(node_id, reply)
        wait_s = _FIRST_WAIT_S if replies else min(wait_s * _GROWTH, _LONGEST_WAIT_S)
        if waiting and not replies:
            time.sleep(min(wait_s, max(0.0, ends - time.monotonic())))
    for node_id in [*unsent, *waiting.values()]:
        yield Reply(node_id, None, f"no answer within {deadline_s:g} s", missing=True)


def _read(node_id: int, reply: Message) -> Reply:
    if reply.has_error():
        return Reply(node_id, None, f"error {reply.error.code}: {reply.error.reason}")
    return Reply(node_id, reply.content)
