"""An in-process Grid: the real ServerApp and ClientApp, real Flower messages, and no sockets.

Nodes answer when a virtual clock says that their reply is due, one task after the other or on a pool of processes.
Messages are copied between the sides, so neither can reach into the other's memory. A node that raises gives an error
reply, as Flower's own runtime does; a node whose answer is None stays silent for ever.
"""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass, field

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from fl_client.app import error_reply
from fl_core.errors import RoundError, StonecropError
from fl_core.flower_private import SERVER_NODE_ID, identify_process, set_message_id
from fl_core.own_code import own_place
from simulation.fleet.clock import VirtualClock
from simulation.fleet.grid import RUN_ID, VirtualGrid

NodeApp = Callable[[Message, Context], "Message | None"]
"""What a node does with a message: its reply, or None for silence."""


class SharedFailureError(Exception):
    """What a node met is no node's failure: ``error`` ends the run."""

    def __init__(self, error: StonecropError) -> None:
        super().__init__(error)
        self.error = error


@dataclass
class _Pending:
    node_id: int
    message: Message
    future: Future[Message | None] | None = field(default=None)


class InProcessGrid(VirtualGrid):
    """A Grid over nodes in this process, or in the processes of ``pool``.

    Args:
        clients: client_id of each node, by node id.
        app: what every node runs; it must be picklable where ``pool`` is one of processes.
        pool: where answers are computed; None computes them here, when they are pulled.
        clock: which reply comes when; by default all are there at once.
    """

    def __init__(
        self,
        clients: Mapping[int, str],
        app: NodeApp,
        pool: Executor | None = None,
        clock: VirtualClock | None = None,
    ) -> None:
        super().__init__(clock or VirtualClock())
        identify_process(RUN_ID)
        self._clients = clients
        self._app = app
        self._pool = pool
        self._pending: dict[str, _Pending] = {}
        self._numbers = itertools.count(1)

    def get_node_ids(self) -> Iterable[int]:
        """All nodes, silent ones too."""
        return list(self._clients)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Hand messages to their nodes; gives the id of each, in order."""
        ids = []
        for message in messages:
            message_id = f"message-{next(self._numbers)}"
            set_message_id(message, message_id)
            pending = _Pending(message.metadata.dst_node_id, message)
            if self._pool is not None:
                context = self._context(pending.node_id)
                pending.future = self._pool.submit(answer_or_error, self._app, message, context)
            self._pending[message_id] = pending
            metadata = message.metadata
            self.clock.start(message_id, metadata.message_type, metadata.group_id, self._clients[pending.node_id])
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The reply that is due first, if any is due by now; one comes with each pull."""
        for key in self.clock.arrived(message_ids):
            reply = self._answer_to(key)
            if reply is not None:
                return [reply]
        return []

    def leave(self, message_ids: Iterable[str]) -> None:
        """Work off messages to whose replies nobody will listen: a board would not know that, and train."""
        for key in message_ids:
            if key in self._pending:
                self._answer_to(key)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Push, then pull until all have answered or the virtual time is over."""
        waiting = set(self.push_messages(messages))
        ends_s = float("inf") if timeout is None else self.clock.now_s() + timeout
        replies: list[Message] = []
        while waiting and self.clock.now_s() < ends_s:
            fresh = list(self.pull_messages(sorted(waiting)))
            waiting -= {reply.metadata.reply_to_message_id for reply in fresh}
            replies += fresh
            if not fresh:
                self.clock.pause(0.0, ends_s)
        return replies

    def _context(self, node_id: int) -> Context:
        return Context(RUN_ID, node_id, {"client-id": self._clients[node_id]}, RecordDict(), {})

    def _answer_to(self, key: str) -> Message | None:
        pending = self._pending.pop(key)
        self.clock.finish(key)
        if pending.future is None:
            return answer_or_error(self._app, copy.deepcopy(pending.message), self._context(pending.node_id))
        error = pending.future.exception()
        if isinstance(error, BrokenExecutor):
            raise RoundError(f"simulation: a worker process died or could not start ({error})")
        return pending.future.result()


def answer_or_error(app: NodeApp, message: Message, context: Context) -> Message | None:
    """The node's reply, or the error reply that Flower's runtime would send for it.

    It is made where the error is: what comes out of another process no longer knows its place.

    Raises:
        OSError: this machine's disk, which all nodes share, is full or refuses; that is no client's failure.
        StonecropError: what else all nodes share is not as it must be.
    """
    try:
        return app(message, context)
    except SharedFailureError as end:
        raise end.error from end
    except (Exception, SystemExit) as error:
        if isinstance(error, OSError) and not own_place(error):
            raise
        return error_reply(message, error)


def nodes_of(clients: Iterable[str]) -> dict[int, str]:
    """Node ids for clients, above the server's own."""
    return {SERVER_NODE_ID + number: name for number, name in enumerate(sorted(clients), start=1)}


def run_app(app: ClientApp, message: Message, context: Context) -> Message:
    """A ClientApp as what a node runs."""
    return app(message, context)


def run_server_app(app: ServerApp, grid: VirtualGrid) -> None:
    """A ServerApp over a simulated Grid, to its end."""
    app(grid, Context(RUN_ID, os.getpid(), {}, RecordDict(), {}))
