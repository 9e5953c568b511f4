"""Who is there: the clients behind the nodes that are online now, found anew before every round.

Only a node that is not known yet is asked who it is. After the start nobody is waited for: a node that answers late,
or comes back after days, is there from the next look on; one that is gone is gone from the next look on.

In deployment a node is believed only the name that its key was enrolled under: whoever answers with another one would
take that client's place, its task_ids and its budget.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress

from fl_core.errors import RoundError, WireError
from fl_core.questions import INFO
from fl_core.records import decode_info
from fl_core.runlog import RunLog
from fl_core.types import ClientInfo
from fl_core.wire import Content, pack_nothing, unpack_reply
from fl_server.nodes.exchange import Exchange
from fl_server.nodes.mailbox import Mailbox

logger = logging.getLogger(__name__)

Nodes = Mapping[int, ClientInfo]
Enrolled = Callable[[], Mapping[int, str]]
"""The client_ids under which nodes were enrolled, as far as they are known now."""
QUERY_DEADLINE_S = 180.0
START_PATIENCE_S = 600.0
"""How much longer a start waits that has too few clients while somebody it has asked is still connected: ending it
would only ask the same slow devices once more."""


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
        self._impostors: dict[int, tuple[str, str]] = {}
        """Nodes that answered with the name of another: the name of each, and what is wrong."""
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
        if first:
            self._impostors.clear()  # what a device says of itself can be set right
        unknown = online - known - self._mail.open_nodes - self._impostors.keys()
        if unknown:
            self._mail.send(INFO, {node_id: pack_nothing() for node_id in sorted(unknown)}, "enrol", QUERY_DEADLINE_S)
        while replies := self._mail.collect():
            for reply in replies:
                if reply.content is not None:
                    with suppress(WireError):
                        self._learn(reply.node_id, _read_info(reply.content, f"node {reply.node_id}"))
        node_of = {info.client_id: node_id for node_id, info in self._known.items() if node_id in online}
        return {node_id: self._known[node_id] for _, node_id in sorted(node_of.items())}

    def say_impostors(self, log: RunLog, round: int) -> None:
        """Write down who was left out of a round for answering with another's name."""
        for _, (client_id, reason) in sorted(self._impostors.items()):
            log.append("client_rejected", round, client_id=client_id, reason=reason)

    def _enough(self, nodes: Nodes, at_least: int, deadline_s: float) -> Nodes:
        """These nodes where they are enough; else the log says who was left out, for no round is going to."""
        if len(nodes) < at_least:
            for _, reason in self._impostors.values():
                logger.warning("%s", reason)
        enough(len(nodes), at_least, deadline_s)
        return nodes

    def _learn(self, node_id: int, info: ClientInfo) -> None:
        self._known.pop(node_id, None)
        if self._enrolled is not None:
            if node_id not in self._names:
                self._names = self._enrolled()
            name = self._names.get(node_id, f"node {node_id}")
            if name != info.client_id:
                reason = f"node {node_id}: expected client_id {name!r}, as enrolled, got {info.client_id!r}"
                self._impostors[node_id] = (name, reason)
                return
        # The newest node of a client comes last: a board that was set up again has another node id.
        self._known[node_id] = info


def _read_info(content: Content, sender: str) -> ClientInfo:
    return decode_info(unpack_reply(INFO, content, sender), sender)


def enough(clients: int, at_least: int, deadline_s: float) -> None:
    """Return where there are as many clients as a run asks for.

    Raises:
        RoundError: there are fewer.
    """
    if clients < at_least:
        raise RoundError(f"run: expected at least {at_least} clients within {deadline_s:g} s, got {clients}")
