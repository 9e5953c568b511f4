"""Who is there: the clients behind the nodes that are online now, found anew before every round.

Only a node that is not known yet is asked who it is. After the start nobody is waited for: a node that answers late,
or comes back after days, is there from the next look on; one that is gone is gone from the next look on.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from flwr.app import RecordDict
from flwr.serverapp import Grid

from fl_core import wire
from fl_core.errors import RoundError, WireError
from fl_core.types import ClientInfo
from fl_server.exchange import Mailbox

Nodes = Mapping[int, ClientInfo]
QUERY_DEADLINE_S = 180.0
PATIENCE_S = 600.0
"""How much longer a start waits that has too few clients while somebody it has asked is still connected: ending it
would only ask the same slow devices once more."""


class Roster:
    """The clients of a Grid, by node id."""

    def __init__(self, grid: Grid, anew: bool = False) -> None:
        """With ``anew`` everyone is asked again before each round, for what changes: how warm, how full."""
        self._grid = grid
        self._anew = anew
        self._mail = Mailbox(grid)
        self._known: dict[int, ClientInfo] = {}

    def gather(self, deadline_s: float, at_least: int) -> Nodes:
        """At the start of a run: everyone who answers before the deadline; ends early when all have, and are enough.

        Where they are too few, whoever was asked is waited for ``PATIENCE_S`` longer.

        Raises:
            RoundError: fewer than ``at_least`` have.
        """
        ends_s = self._mail.clock.now_s() + deadline_s
        while True:
            nodes, asked = self.look(), bool(self._mail.open_nodes)
            enough, late_s = len(nodes) >= at_least, self._mail.clock.now_s() - ends_s
            if (enough and not asked) or late_s >= (PATIENCE_S if asked and not enough else 0.0):
                break
            self._mail.wait(ends_s if late_s < 0 else ends_s + PATIENCE_S)
        return _enough(nodes, at_least, deadline_s)

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
        return _enough(nodes, at_least, deadline_s)

    def look(self, first: bool = False) -> Nodes:
        """Everyone who is online and has said who it is, one node a client; waits for nobody.

        ``first``: of a round.
        """
        online = set(self._grid.get_node_ids())
        known = set() if first and self._anew else self._known.keys()
        unknown = online - known - self._mail.open_nodes
        if unknown:
            self._mail.send("query", {node_id: RecordDict() for node_id in sorted(unknown)}, "enrol", QUERY_DEADLINE_S)
        while replies := self._mail.collect():
            for reply in replies:
                if reply.content is not None:
                    with suppress(WireError):
                        # The newest node of a client comes last: a board that was set up again has another node id.
                        self._known.pop(reply.node_id, None)
                        self._known[reply.node_id] = wire.unpack_info(reply.content, f"node {reply.node_id}")
        node_of = {info.client_id: node_id for node_id, info in self._known.items() if node_id in online}
        return {node_id: self._known[node_id] for _, node_id in sorted(node_of.items())}


def _enough(nodes: Nodes, at_least: int, deadline_s: float) -> Nodes:
    if len(nodes) < at_least:
        raise RoundError(f"run: expected at least {at_least} clients within {deadline_s:g} s, got {len(nodes)}")
    return nodes
