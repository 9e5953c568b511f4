"""How a ServerApp and a ClientApp wait for the parts of a message, and a Grid that waits for no single reply.

Flower waits for the parts of one reply before it looks at the next; ``pulling_side_by_side`` does not.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any

from flwr.app import Message
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError

if TYPE_CHECKING:
    from flwr.serverapp import Grid

SIDE_BY_SIDE, STUCK_S = 8, 1.0
"""So many replies are downloaded at a time; one that has taken ``STUCK_S`` makes room for another."""
FIRST_LOOK_S = 0.05
"""How long to wait for a part of a message that has not come yet, before the second look; then twice as long."""


def look_again_soon() -> None:
    """Let this process wait ``FIRST_LOOK_S`` for parts of a message that are under way, where Flower waits for 1 s.

    A message is announced before its parts are there, so whoever is quick to ask would lose that second in each round.
    """
    from flwr.supercore.inflatable import inflatable_utils

    for function in (inflatable_utils.pull_objects, inflatable_utils.pull_and_inflate_object_from_tree):
        defaults: dict[str, Any] = function.__kwdefaults__ or {}
        defaults["initial_backoff"] = FIRST_LOOK_S


class _OneReply:
    """A client of the Runtime API to which one reply has been announced."""

    def __init__(self, client: Any, announced: Any, over: threading.Event) -> None:
        self._client = client
        self._announced = announced
        self._over = over

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def PullMessages(self, request: Any) -> Any:  # noqa: N802
        return self._announced

    def PullObject(self, request: Any) -> Any:  # noqa: N802
        if self._over.is_set():
            raise ObjectPullError(request.object_id, "nobody waits for it")
        return self._client.PullObject(request)


@contextmanager
def pulling_side_by_side(grid: Grid) -> Iterator[None]:
    """Inside, ``grid.pull_messages`` hands out what is there while other replies are still being uploaded.

    A reply is announced before its parts are there, and Flower waits for them one reply after the other: a node that
    dies while it uploads would keep everybody else's updates, and the round, waiting for minutes. The grid gets a
    method ``leave(message_ids)``, too: nobody waits for these replies any more. They are still taken off the SuperLink,
    which would keep them to the end of the run. Replies that are under way at the end are given up.

    However many nodes answer at once, ``SIDE_BY_SIDE`` replies are held in memory, and those that got stuck.
    """
    from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PullAppMessagesResponse
    from flwr.superlink.grid.http_grid import HttpGrid

    if not isinstance(grid, HttpGrid):
        yield
        return
    over = threading.Event()
    client = grid._runtime_client
    announced, underway = dict[str, PullAppMessagesResponse](), dict[str, float]()
    ready, left = dict[str, Message](), set[str]()
    taken = Queue[tuple[str, list[Message]]]()

    def take(key: str, announced: Any) -> None:
        found: list[Message] = []
        single = copy.copy(grid)
        vars(single)["_client"] = _OneReply(client, announced, over)
        try:
            found = list(HttpGrid.pull_messages(single, []))
        finally:
            taken.put((key, found))

    def pull(message_ids: Iterable[str]) -> list[Message]:
        asked = list(message_ids)
        if wanted := (left | set(asked)) - announced.keys() - underway.keys() - ready.keys():
            response = client.PullMessages(PullAppMessagesRequest(message_ids=sorted(wanted)))
            for message, tree in zip(response.messages_list, response.message_object_trees, strict=True):
                one = PullAppMessagesResponse(messages_list=[message], message_object_trees=[tree])
                announced[message.metadata.reply_to_message_id] = one
        with suppress(Empty):
            while True:
                key, found = taken.get_nowait()
                del underway[key]
                if found and key in left:
                    left.remove(key)
                elif found:
                    ready[key] = found[0]
        answers = [ready.pop(key) for key in asked if key in ready]
        now_s = time.monotonic()
        room = SIDE_BY_SIDE - sum(now_s - began_s < STUCK_S for began_s in underway.values())
        for key in [key for key in (*asked, *left) if key in announced][: max(0, room)]:
            underway[key] = now_s
            threading.Thread(target=take, args=(key, announced.pop(key)), daemon=True).start()
        return answers

    def leave(message_ids: Iterable[str]) -> None:
        left.update(key for key in message_ids if ready.pop(key, None) is None)

    vars(grid).update(pull_messages=pull, leave=leave)
    try:
        yield
    finally:
        over.set()
        for name in ("pull_messages", "leave"):
            delattr(grid, name)
