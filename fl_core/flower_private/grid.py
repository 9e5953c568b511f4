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
    from flwr.superlink.grid.http_grid import HttpGrid

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
        self._stub = client
        self._announced = announced
        self._over = over

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stub, name)

    def PullMessages(self, request: Any) -> Any:  # noqa: N802
        return self._announced

    def PullObject(self, request: Any) -> Any:  # noqa: N802
        if self._over.is_set():
            raise ObjectPullError(request.object_id, "nobody waits for it")
        return self._stub.PullObject(request)


class _Downloads:
    """The replies to one grid, each downloaded by a thread of its own; no thread is waited for.

    A reply is announced, then under way, then ready, then handed out. One that was left is downloaded and dropped.
    """

    def __init__(self, grid: HttpGrid) -> None:
        self._grid = grid
        self._stub = grid._runtime_client
        self._announced = dict[str, Any]()
        """What the SuperLink said of replies that nobody downloads yet, by the id of the message they answer."""
        self._underway = dict[str, float]()
        """When each download began, in seconds of the monotonic clock."""
        self._ready = dict[str, Message]()
        self._left = set[str]()
        self._taken = Queue[tuple[str, list[Message]]]()
        self.over = threading.Event()

    def pull(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies to ``message_ids`` that are there by now, each once."""
        asked = list(message_ids)
        self._ask_for(asked)
        self._collect()
        answers = [self._ready.pop(key) for key in asked if key in self._ready]
        self._begin(asked)
        return answers

    def leave(self, message_ids: Iterable[str]) -> None:
        """Wait for these replies no more; they are taken off the SuperLink all the same."""
        self._left.update(key for key in message_ids if self._ready.pop(key, None) is None)

    def _ask_for(self, asked: list[str]) -> None:
        """Ask the SuperLink which of the missing replies it has."""
        from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PullAppMessagesResponse

        known = self._announced.keys() | self._underway.keys() | self._ready.keys()
        if wanted := (self._left | set(asked)) - known:
            response = self._stub.PullMessages(PullAppMessagesRequest(message_ids=sorted(wanted)))
            for message, tree in zip(response.messages_list, response.message_object_trees, strict=True):
                one = PullAppMessagesResponse(messages_list=[message], message_object_trees=[tree])
                self._announced[message.metadata.reply_to_message_id] = one

    def _collect(self) -> None:
        """Note the downloads that have ended, with a reply or without."""
        with suppress(Empty):
            while True:
                key, found = self._taken.get_nowait()
                del self._underway[key]
                if found and key in self._left:
                    self._left.remove(key)
                elif found:
                    self._ready[key] = found[0]

    def _begin(self, asked: list[str]) -> None:
        """Download what is announced, as far as there is room; what is asked for comes before what was left."""
        now_s = time.monotonic()
        room = SIDE_BY_SIDE - sum(now_s - began_s < STUCK_S for began_s in self._underway.values())
        for key in [key for key in (*asked, *self._left) if key in self._announced][: max(0, room)]:
            self._underway[key] = now_s
            threading.Thread(target=self._take, args=(key, self._announced.pop(key)), daemon=True).start()

    def _take(self, key: str, announced: Any) -> None:
        """Let Flower download one reply, by a grid that knows of no other."""
        from flwr.superlink.grid.http_grid import HttpGrid

        found: list[Message] = []
        single = copy.copy(self._grid)
        # The copy takes over the stand-in ``pull_messages`` of the grid as well: Flower's own is called by its class.
        vars(single)["_client"] = _OneReply(self._stub, announced, self.over)
        try:
            found = list(HttpGrid.pull_messages(single, []))
        finally:
            self._taken.put((key, found))


@contextmanager
def pulling_side_by_side(grid: Grid) -> Iterator[None]:
    """Inside, ``grid.pull_messages`` hands out what is there while other replies are still being uploaded.

    A reply is announced before its parts are there, and Flower waits for them one reply after the other: a node that
    dies while it uploads would keep everybody else's updates, and the round, waiting for minutes. The grid gets a
    method ``leave(message_ids)``, too: nobody waits for these replies any more. They are still taken off the SuperLink,
    which would keep them to the end of the run. Replies that are under way at the end are given up.

    However many nodes answer at once, ``SIDE_BY_SIDE`` replies are held in memory, and those that got stuck.
    """
    from flwr.superlink.grid.http_grid import HttpGrid

    if not isinstance(grid, HttpGrid):
        yield
        return
    downloads = _Downloads(grid)
    vars(grid).update(pull_messages=downloads.pull, leave=downloads.leave)
    try:
        yield
    finally:
        downloads.over.set()
        for name in ("pull_messages", "leave"):
            delattr(grid, name)
