"""A board's SuperNode, started as Flower starts it, with what no option changes.

A SuperNode that has nothing to do sleeps for 3 s before it asks again; ``run_supernode`` asks oftener while there is
work, and seldomer while the server is slow to answer. A SuperNode that was killed keeps its successor out for a
minute; here the successor gives its lease back first. One message is at work at a time, and what is left of a dropped
one is forgotten.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

IDLE_POLL_S = 3.0
"""What Flower's SuperNode sleeps when the SuperLink has no message for it."""
BUSY_POLL_S = 0.5
"""What a SuperNode sleeps instead while a run is under way, which its own messages show."""
REPLY_POLL_S = 0.1
"""What a SuperNode sleeps between two looks, on its own machine, for the reply to a message."""
BUSY_FOR_S = 60.0
REST_SHARE, LONGEST_REST_S = 9.0, 10.0
"""After a question a SuperNode sleeps at least so many times as long as the answer took, and never longer for that.

So whatever their number, nodes that ask often take a share of a SuperLink that is at its limit, and leave it no queue.
"""


class PollingTime:
    """Stands for the module ``time`` in the SuperNode's loop, so that it sleeps shorter while there is work.

    The loop sleeps in other steps than ``IDLE_POLL_S`` only while it waits for the reply to a message.
    """

    def __init__(self) -> None:
        self._busy_until = 0.0
        self._asked: float | None = None
        """When it woke up to ask; None while it is busy with a message."""

    def sleep(self, seconds: float) -> None:
        """Sleep as long as fits what the loop waits for; an idle node sleeps as Flower's own does."""
        now = time.monotonic()
        if seconds != IDLE_POLL_S:
            self._busy_until, self._asked = now + BUSY_FOR_S, None
            time.sleep(REPLY_POLL_S)
            return
        answer_s = 0.0 if self._asked is None else now - self._asked
        time.sleep(pause_s(busy=now < self._busy_until, answer_s=answer_s))
        self._asked = time.monotonic()


def pause_s(*, busy: bool, answer_s: float) -> float:
    """How long a SuperNode sleeps when there is no message for it, ``answer_s`` after it had asked."""
    return max(BUSY_POLL_S if busy else IDLE_POLL_S, min(REST_SHARE * answer_s, LONGEST_REST_S))


class _OwnSuperExec:
    """Stands for the module ``subprocess`` where a SuperNode starts its SuperExec."""

    def __init__(self, instead: Sequence[str]) -> None:
        self._instead = instead

    def Popen(self, command: Sequence[str]) -> subprocess.Popen[bytes]:  # noqa: N802
        """Start it, by our command in place of Flower's."""
        return subprocess.Popen([*self._instead, *command[1:]])


def state_of_one_message() -> type[Any]:
    """A SuperNode's state that knows that there is one message at a time.

    One whose task is over without a reply has an error as its reply; ``forget`` leaves nothing of one that was dropped.
    """
    from flwr.common.constant import Status, SubStatus
    from flwr.supernode.nodestate import in_memory_nodestate as stock

    class NodeState(stock.InMemoryNodeState):
        def get_messages_legacy(self, *, is_reply: bool | None = None, **which: Any) -> Any:
            # A task is over after its reply has come, so what has come is looked at last.
            open_tasks = self._open_tasks()
            found = super().get_messages_legacy(is_reply=is_reply, **which)
            if found or not is_reply or open_tasks:
                return found
            with self.lock_msg_store:
                for entry in self.msg_store.values():
                    entry.is_retrieved = True
                runs = {entry.message.metadata.run_id for entry in self.msg_store.values()}
                self._store_error_replies(runs, stock.CLIENT_APP_CRASHED_ERROR)
            return super().get_messages_legacy(is_reply=is_reply, **which)

        def forget(self) -> None:
            for task in self._open_tasks():
                self.finish_task(task.task_id, SubStatus.STOPPED, "its message was dropped")
            for message_id in list(self.msg_store):
                self.object_store.delete(message_id)
            self.delete_messages()

        def _open_tasks(self) -> Any:
            return self.get_tasks(statuses=[Status.PENDING, Status.STARTING, Status.RUNNING])

    return NodeState


def forgetting(pull_and_store: Callable[..., int | None]) -> Callable[..., int | None]:
    """``_pull_and_store_message`` of a SuperNode that forgets what came before when a new message comes.

    Flower's drops a message whose run has ended while it was on its way, but not its task. The reply to it then goes
    out in place of the next message's, and each later one in place of its successor's: the server never hears in time.
    """

    def pull(*, receive: Callable[[], Any], state: Any, **given: Any) -> int | None:
        def receive_alone() -> Any:
            received = receive()
            if received is not None:
                state.forget()
            return received

        return pull_and_store(receive=receive_alone, state=state, **given)

    return pull


class Lease(Protocol):
    """What a SuperNode writes down of the node that it holds at the SuperLink, for the next one to give back."""

    def left_behind(self) -> int | None:
        """The node id of a SuperNode that is gone and has not said so to the SuperLink; None where there is none."""

    def take(self, node_id: int) -> None:
        """Write down that this process holds the node ``node_id`` from now on."""


def giving_back(stock: type[Any], lease: Lease) -> type[Any]:
    """A client of the Fleet API that gives back the node of a dead SuperNode before it asks for one of its own."""
    import httpx
    from flwr.proto.fleet_pb2 import DeactivateNodeRequest

    class LeasedFleetClient(stock):  # type: ignore[misc]
        def ActivateNode(self, request: Any) -> Any:  # noqa: N802
            node_id = lease.left_behind()
            if node_id is not None:
                with suppress(httpx.HTTPStatusError):  # it holds none, or a server that is another one has never had it
                    self.DeactivateNode(DeactivateNodeRequest(node_id=node_id))
            activated = super().ActivateNode(request)
            lease.take(activated.node_id)
            return activated

    return LeasedFleetClient


def run_supernode(superexec: Sequence[str], lease_in: Callable[[Path], Lease]) -> None:
    """``flower-supernode``, with this process's arguments, that asks oftener while a run is under way.

    ``superexec`` is the command that it starts in place of ``flower-superexec``; ``lease_in`` gives the lease that is
    written down in a folder, Flower's own. When its loop has ended, the process ends: Flower's stays for ever, for the
    thread that serves its SuperExec, after a connection that was cut while it was made.
    """
    from flwr.supercore.exit import ExitCode, flwr_exit
    from flwr.supercore.utils import get_flwr_home
    from flwr.supernode import fleet_http_connection, start_client_internal
    from flwr.supernode.cli import flower_supernode
    from flwr.supernode.fleet_http_client import FleetHttpClient
    from flwr.supernode.nodestate import nodestate_factory

    pull = forgetting(start_client_internal._pull_and_store_message)
    vars(start_client_internal).update(
        time=PollingTime(), subprocess=_OwnSuperExec(superexec), _pull_and_store_message=pull
    )
    vars(nodestate_factory)["InMemoryNodeState"] = state_of_one_message()
    vars(fleet_http_connection)["FleetHttpClient"] = giving_back(FleetHttpClient, lease_in(get_flwr_home()))
    flower_supernode()
    flwr_exit(ExitCode.SUPERNODE_CONNECTION_ERROR, "The SuperNode has lost its connection to the SuperLink.")
