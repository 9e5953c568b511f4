"""A Grid of simulated nodes: one run, no sockets, and a time of its own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from simulation.fleet.clock import VirtualClock

RUN_ID = 1


class VirtualGrid(Grid):
    """What every simulated Grid has; ``clock`` says which reply comes when."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock

    @abstractmethod
    def leave(self, message_ids: Iterable[str]) -> None:
        """Nobody will ask for the replies to these messages."""

    def set_run(self, run: Run) -> None:
        """A simulated Grid has one run."""

    @property
    def run(self) -> Run:
        """The one run."""
        return Run.create_empty(RUN_ID)

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message to one node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)
