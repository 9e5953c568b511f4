"""A Grid on which some nodes are hostile: their updates are forged from all others' before the server sees them.

A forged update travels as every other does: encoded, admitted or rejected, summed. The attackers' replies are held
until all others to the same request are there, then sent together; in a request without honest replies, as in most of
an asynchronous run, they go out as they are. Attackers read the server's checkpoint, so they know model and state of
the round that they attack.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from flwr.app import Message

from fl_core import wire
from fl_core.questions import TRAIN
from fl_core.types import ClientUpdate
from fl_core.update import decode_update, encode_update
from simulation.attacks.colluders import Colluders
from simulation.fleet.grid import VirtualGrid


@dataclass
class _Request:
    """The messages of one request of the server that are not answered yet, and the answers so far."""

    open: set[str] = field(default_factory=set)
    honest: list[ClientUpdate] = field(default_factory=list)
    held: dict[str, tuple[ClientUpdate, Message]] = field(default_factory=dict)
    """Updates of attackers' own training, and the replies that hold them, by message."""


class AttackedGrid(VirtualGrid):
    """``grid`` with colluders among its nodes; ``clients`` has the client_id of each node."""

    def __init__(self, grid: VirtualGrid, colluders: Colluders, clients: Mapping[int, str]) -> None:
        super().__init__(grid.clock)
        self._grid = grid
        self._colluders = colluders
        self._clients = clients
        self._requests: dict[str, _Request] = {}
        self._asked: dict[str, tuple[str, str]] = {}

    def get_node_ids(self) -> Iterable[int]:
        """All nodes."""
        return self._grid.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Hand messages to their nodes; gives the id of each, in order."""
        messages = list(messages)
        ids = list(self._grid.push_messages(messages))
        for message_id, message in zip(ids, messages, strict=True):
            if message.metadata.message_type.partition(".")[0] == TRAIN.message_type:
                request = message.metadata.group_id
                self._asked[message_id] = (request, self._clients[message.metadata.dst_node_id])
                self._requests.setdefault(request, _Request()).open.add(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Replies that are there; those of attackers only with or after the last of their request."""
        message_ids = list(message_ids)
        while fresh := list(self._grid.pull_messages(message_ids)):
            released = [message for reply in fresh for message in self._pass(reply)]
            if released:
                return released
        return [message for request in list(self._requests) for message in self._release(request)]

    def leave(self, message_ids: Iterable[str]) -> None:
        """Nobody will ask for the replies to these messages."""
        message_ids = list(message_ids)
        self._grid.leave(message_ids)
        for request in self._requests.values():
            for key in message_ids:
                request.open.discard(key)
                request.held.pop(key, None)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Push, then pull until all have answered; only questions that nobody forges are asked so."""
        return self._grid.send_and_receive(messages, timeout=timeout)

    def _pass(self, reply: Message) -> list[Message]:
        """What the server may see now that ``reply`` is there."""
        key = reply.metadata.reply_to_message_id
        if key not in self._asked:
            return [reply]
        name, client = self._asked.pop(key)
        request = self._requests[name]
        request.open.discard(key)
        update = update_of(reply, client)
        if update is not None and client in self._colluders.members:
            request.held[key] = (update, reply)
            return self._release(name)
        if update is not None:
            request.honest.append(update)
        return [reply, *self._release(name)]

    def _release(self, name: str) -> list[Message]:
        """The forged replies to a request, once nobody else is to answer it."""
        request = self._requests[name]
        if request.open:
            return []
        del self._requests[name]
        held = sorted(request.held.values(), key=lambda pair: pair[0].client_id)
        honest = sorted(request.honest, key=lambda update: update.client_id)
        if held and honest:
            forged = self._colluders.forge(honest, [own for own, _ in held])
            for (_, reply), update in zip(held, forged, strict=True):
                reply.content = wire.pack_reply(TRAIN, encode_update(update))
        return [reply for _, reply in held]


def update_of(reply: Message, client: str) -> ClientUpdate | None:
    """The update in a reply; None where it holds none."""
    if reply.has_error() or wire.refusal_of(reply.content):
        return None
    return decode_update(wire.unpack_reply(TRAIN, reply.content, client), client)
