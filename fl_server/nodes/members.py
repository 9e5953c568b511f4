"""Who is there: the clients behind the nodes that are online now, found anew before every round.

Only a node that is not known yet is asked who it is. After the start nobody is waited for: a node that answers late,
or comes back after days, is there from the next look on; one that is gone is gone from the next look on.

In deployment a node is believed only the name that its key was enrolled under: whoever answers with another one would
take that client's place, its task_ids and its budget.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fl_core.errors import RoundError, WireError
from fl_core.questions import INFO
from fl_core.records import decode_info
from fl_core.runlog import RunLog
from fl_core.types import ClientInfo
from fl_core.wire import pack_nothing, refusal_of, unpack_reply
from fl_server.nodes.exchange import Exchange
from fl_server.nodes.mailbox import Mailbox, Reply

Nodes = Mapping[int, ClientInfo]
Enrolled = Callable[[], Mapping[int, str]]
"""The client_ids under which nodes were enrolled, as far as they are known now."""
QUERY_DEADLINE_S = 180.0
_IMPOSTOR = "client_rejected"
START_PATIENCE_S = 600.0
"""How much longer a start waits that has too few clients while somebody it has asked is still connected: ending it
would only ask the same slow devices once more."""


@dataclass(frozen=True)
class LeftOut:
    """A node that is connected and takes no part, as an event tells it."""

    name: str
    """Its client_id as enrolled, or its node id where nobody knows one."""
    kind: str
    """The kind of the event."""
    reason: str


class Members:
    """The clients behind the nodes of an exchange, by node id."""

    def __init__(self, exchange: Exchange, anew: bool = False, enrolled: Enrolled | None = None) -> None:
        """With ``anew`` everyone is asked again before each round, for what changes: how warm, how full.

        Without ``enrolled`` a node is who it says.
        """
        self._exchange = exchange
        self._enrolled = enrolled
        self._names: Mapping[int, str] = {}
        """What ``enrolled`` said last."""
        self._left_out: dict[int, LeftOut] = {}
        """Nodes that answered with the name of another, with an error or not at all, when they were asked last."""
        self._anew = anew
        self._mail = Mailbox(exchange)
        self._known: dict[int, ClientInfo] = {}

    def gather(self, deadline_s: float, at_least: int) -> Nodes:
        """At the start of a run: everyone who answers before the deadline; ends early when all have, and are enough.

        Where they are too few, whoever was asked is waited for ``START_PATIENCE_S`` longer.

        Raises:
            RoundError: fewer than ``at_least`` have.
        """
        ends_s = self._mail.clock.now_s() + deadline_s
        while True:
            nodes, asked = self.look(), bool(self._mail.open_nodes)
            too_few, late_s = len(nodes) < at_least, self._mail.clock.now_s() - ends_s
            if not (too_few or asked) or late_s >= (START_PATIENCE_S if asked and too_few else 0.0):
                break
            self._mail.wait(ends_s if late_s < 0 else ends_s + START_PATIENCE_S)
        return self._enough(nodes, at_least, deadline_s)

    def wait_for(self, at_least: int, deadline_s: float) -> Nodes:
        """Before a round: who is there now; when that is fewer than ``at_least``, with the first to come.

        Raises:
            RoundError: they are not enough at the deadline.
        """
        ends_s = self._mail.clock.now_s() + deadline_s
        nodes = self.look(first=True)
        while len(nodes) < at_least and self._mail.clock.now_s() < ends_s:
            self._mail.wait(ends_s)
            nodes = self.look()
        return self._enough(nodes, at_least, deadline_s)

    def look(self, first: bool = False) -> Nodes:
        """Everyone who is online and has said who it is, one node a client; waits for nobody.

        ``first``: of a round.
        """
        online = self._exchange.nodes()
        known = set() if first and self._anew else self._known.keys()
        impostors = {node_id for node_id, each in self._left_out.items() if each.kind == _IMPOSTOR}
        unknown = online - known - self._mail.open_nodes - (set() if first else impostors)  # a name can be set right
        if unknown:
            self._mail.send(INFO, {node_id: pack_nothing() for node_id in sorted(unknown)}, "enrol", QUERY_DEADLINE_S)
        while replies := self._mail.collect():
            for reply in replies:
                self._take(reply)
        node_of = {info.client_id: node_id for node_id, info in self._known.items() if node_id in online}
        return {node_id: self._known[node_id] for _, node_id in sorted(node_of.items())}

    def say_left_out(self, log: RunLog, round: int) -> None:
        """Write down which of the connected nodes take no part in a round, each with its reason."""
        online = self._exchange.nodes()
        for node_id, each in sorted(self._left_out.items()):
            if node_id in online and node_id not in self._known:
                log.append(each.kind, round, client_id=each.name, reason=each.reason)

    def check_enough(self, clients: int, at_least: int, deadline_s: float) -> None:
        """Return where there are as many clients as a run asks for.

        Raises:
            RoundError: there are fewer; it names every node that was left out, and why.
        """
        if clients >= at_least:
            return
        nodes_by_reason: dict[str, list[str]] = {}
        for node_id, each in sorted(self._left_out.items()):
            who = each.name if each.name == f"node {node_id}" else f"client {each.name}"
            nodes_by_reason.setdefault(each.reason, []).append(who)
        reasons = [f"{', '.join(who)}: {reason}" for reason, who in nodes_by_reason.items()]
        few = f"run: expected at least {at_least} clients within {deadline_s:g} s, got {clients}"
        raise RoundError([few, *reasons])

    def _enough(self, nodes: Nodes, at_least: int, deadline_s: float) -> Nodes:
        self.check_enough(len(nodes), at_least, deadline_s)
        return nodes

    def _take(self, reply: Reply) -> None:
        """Learn who a node is from its answer, or why it takes no part."""
        node_id = reply.node_id
        sender = f"node {node_id}"
        name = self._name_of(node_id)
        try:
            if reply.content is None:
                raise WireError(reply.failure)
            if refusal := refusal_of(reply.content):
                raise WireError(refusal)
            info = decode_info(unpack_reply(INFO, reply.content, sender), sender)
        except WireError as error:
            kind = "client_missing" if reply.missing else "client_failed"
            self._left_out[node_id] = LeftOut(name or sender, kind, f"asked who it is: {error}")
            return
        self._known.pop(node_id, None)
        self._left_out.pop(node_id, None)
        if self._enrolled is not None and name != info.client_id:
            wrong = f"expected client_id {name or sender!r}, as enrolled, got {info.client_id!r}"
            self._left_out[node_id] = LeftOut(name or sender, _IMPOSTOR, f"{sender}: {wrong}")
            return
        # The newest node of a client comes last: a board that was set up again has another node id.
        self._known[node_id] = info

    def _name_of(self, node_id: int) -> str:
        """The client_id that a node was enrolled under; empty where nobody knows."""
        if self._enrolled is not None and node_id not in self._names:
            self._names = self._enrolled()
        return self._names.get(node_id, "")
