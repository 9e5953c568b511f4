"""Finding the nodes that have lost what they were asked, without disturbing one that is still at work.

A SuperLink hands a message out once. Where SuperLink, gateway or SuperNode die while it is on its way, the node never
has it; where they die a little later, its reply is gone. Either way nothing more comes. A node does one thing after
another, so one that has been silent for a while is asked who it is, which costs next to nothing: if it is at work, it
answers that after its work; if it answers that alone, what it was asked before is lost and can be sent again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from fl_core.questions import INFO
from fl_core.wire import pack_nothing
from fl_server.nodes.exchange import Exchange, Incoming, Outgoing

logger = logging.getLogger(__name__)

SILENT_S, SLOWER, LONGER = 10.0, 2.0, 3.0
"""A node is asked who it is when it has been silent for ``SILENT_S`` and ``SLOWER`` times as long as the slowest answer
took so far, and again after ``LONGER`` times as long each time. Where nobody has answered yet, the first time is that
much later, too: all may be at work."""
_KEPT_S = 3600.0


class Liveness:
    """Questions to nodes that have been silent for ``silent_s`` at least; a node has one task at a time."""

    def __init__(self, exchange: Exchange, silent_s: float = SILENT_S) -> None:
        self._exchange = exchange
        self._silent_s = silent_s
        self._slowest_s = 0.0
        self._patience: dict[int, tuple[float, float]] = {}
        """Since when each node is silent, and for how long it may be."""
        self._sent: dict[str, int] = {}

    @property
    def keys(self) -> list[str]:
        """The questions that have no answer yet."""
        return list(self._sent)

    def begin(self, node_id: int, now_s: float) -> None:
        """A node is sent a task, or sent it again."""
        self._patience[node_id] = (now_s, self._silent_s)

    def answered(self, seconds: float) -> None:
        """An answer took so long."""
        self._slowest_s = max(self._slowest_s, seconds)

    def end(self, node_ids: Iterable[int]) -> list[str]:
        """Nothing more is awaited from these nodes; gives the questions to them that nobody waits for now."""
        gone = {node_id for node_id in node_ids if self._patience.pop(node_id, None)}
        left = [key for key, node_id in self._sent.items() if node_id in gone]
        for key in left:
            del self._sent[key]
        return left

    def ask_silent(self, now_s: float) -> None:
        """Ask every node that has been silent for too long."""
        least_s = SLOWER * self._slowest_s if self._slowest_s else LONGER * self._silent_s
        silent = [
            node_id
            for node_id, (since_s, patience_s) in self._patience.items()
            if now_s - since_s >= max(patience_s, least_s)
        ]
        for node_id in silent:
            since_s, _ = self._patience[node_id]
            self._patience[node_id] = (since_s, LONGER * (now_s - since_s))
        if silent:
            keys = self._exchange.push([Outgoing(node_id, INFO, pack_nothing(), _KEPT_S) for node_id in silent])
            self._sent.update((key, node_id) for key, node_id in zip(keys, silent, strict=True) if key)

    def lost(self, reply: Incoming) -> int | None:
        """The node that has lost its task, as its answer to a question shows."""
        node_id = self._sent.pop(reply.key, None)
        if reply.content is not None:
            return node_id
        if node_id is not None and not reply.away:
            logger.warning("node %d: asked whether it is at work: %s", node_id, reply.failure)
        return None
