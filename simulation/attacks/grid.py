"""A Grid on which some nodes are hostile: their updates are forged from all others' before the server sees them.

A forged update travels as every other does: encoded, admitted or rejected, summed. The attackers' replies are held
until all others to the same request are there, then sent together; in a request without honest replies, as in most of
an asynchronous run, they go out as they are. Attackers read the server's checkpoint, so they know model and state of
the round that they attack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fl_core import wire
from fl_core.errors import UpdateRejectedError
from fl_core.rng import generator
from fl_core.tree import norm
from fl_core.types import ClientUpdate
from fl_core.update import decode_update, encode_update
from simulation.attacks.base import Attack, AttackerView
from simulation.engines.grid import InProcessGrid
from simulation.fleet.clock import TRAIN, VirtualClock
from strategies.base import Strategy, StrategyState
from strategies.robust.rule import Matrix, row_of, tensors_of


@dataclass(frozen=True)
class Crew:
    """The attackers, what they do, and what they know of the server."""

    attack: Attack
    members: frozenset[str]
    """Their client_ids."""
    strategy: Strategy
    state: Callable[[], StrategyState]
    """The server's state before the round that is open."""
    max_norm: float
    """Largest norm of a part of an update that will be admitted."""
    seed: int

    def forge(self, honest: Sequence[ClientUpdate], own: Sequence[ClientUpdate]) -> list[ClientUpdate]:
        """What the attackers send in place of ``own``; both are sorted by client_id and have at least one update."""
        state = self.state()
        straight_D = self._move(state, honest)

        def damage(forged_AD: Matrix) -> float:
            forged = [with_row(update, row_D) for update, row_D in zip(own, forged_AD, strict=True)]
            if any(norm(part.tensors) > self.max_norm for update in forged for part in update.parts.values()):
                return -np.inf
            try:
                return float(np.linalg.norm(self._move(state, [*honest, *forged]) - straight_D))
            except UpdateRejectedError:
                return -np.inf

        view = AttackerView(
            honest_ND=np.stack([whole_row(update) for update in honest]),
            own_AD=np.stack([whole_row(update) for update in own]),
            damage=damage,
            draw=generator("attack", self.seed, state.version),
        )
        return [with_row(update, row_D) for update, row_D in zip(own, self.attack.forge(view), strict=True)]

    def _move(self, state: StrategyState, updates: Sequence[ClientUpdate]) -> Matrix:
        """[D]: what the server would add to its model."""
        opened = state
        for update in updates:
            opened = self.strategy.accumulate(opened, update)
        return row_of(self.strategy.finish(opened).model) - row_of(state.model)


@dataclass
class _Request:
    """The messages of one request of the server that are not answered yet, and the answers so far."""

    open: set[str] = field(default_factory=set)
    honest: list[ClientUpdate] = field(default_factory=list)
    held: dict[str, tuple[ClientUpdate, Message]] = field(default_factory=dict)
    """Updates of attackers' own training, and the replies that hold them, by message."""


class AttackedGrid(Grid):
    """``grid`` with a crew among its nodes; ``clients`` has the client_id of each node."""

    def __init__(self, grid: InProcessGrid, crew: Crew, clients: Mapping[int, str]) -> None:
        self._grid = grid
        self._crew = crew
        self._clients = clients
        self._requests: dict[str, _Request] = {}
        self._asked: dict[str, tuple[str, str]] = {}

    @property
    def clock(self) -> VirtualClock:
        """The time of the grid."""
        return self._grid.clock

    def set_run(self, run: Run) -> None:
        """There is one run."""

    @property
    def run(self) -> Run:
        """The one run."""
        return self._grid.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message to one node."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        """All nodes."""
        return self._grid.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Hand messages to their nodes; gives the id of each, in order."""
        messages = list(messages)
        ids = list(self._grid.push_messages(messages))
        for message_id, message in zip(ids, messages, strict=True):
            if message.metadata.message_type.partition(".")[0] == TRAIN:
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
        if update is not None and client in self._crew.members:
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
            forged = self._crew.forge(honest, [own for own, _ in held])
            for (_, reply), update in zip(held, forged, strict=True):
                reply.content = wire.pack_update(encode_update(update))
        return [reply for _, reply in held]


def update_of(reply: Message, client: str) -> ClientUpdate | None:
    """The update in a reply; None where it holds none."""
    if reply.has_error() or wire.refusal_of(reply.content):
        return None
    return decode_update(wire.unpack_update(reply.content, client), client)


def whole_row(update: ClientUpdate) -> Matrix:
    """[D]: all parts of an update, in the order of their names."""
    return np.concatenate([row_of(update.parts[name].tensors) for name in sorted(update.parts)])


def with_row(update: ClientUpdate, row_D: Matrix) -> ClientUpdate:
    """The update with its values replaced; what float32 cannot hold becomes its largest value."""
    limit = float(np.finfo(np.float32).max)
    parts, at = {}, 0
    for name in sorted(update.parts):
        part = update.parts[name]
        size = sum(t.size for t in part.tensors.values())
        parts[name] = replace(part, tensors=tensors_of(np.clip(row_D[at : at + size], -limit, limit), part.tensors))
        at += size
    return replace(update, parts=parts)
