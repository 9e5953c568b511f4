"""Every private name of Flower that Stonecrop needs, in one place, with the reason.

``Message()`` asks ``TaskIdentity`` who is sending, which Flower's own processes set before an app runs; an in-process
Grid has to set it itself. A message gets its id from the SuperLink, so an in-process Grid gives it one. A SuperNode
that has nothing to do sleeps for 3 s before it asks again, which no option changes; ``run_supernode`` does. Flower's
command starts for 2 s before each call of the Control API; ``ControlApi`` makes the short ones from this process.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flwr.app import Message
from flwr.supercore.task_identity import TaskIdentity

from fl_core.errors import RoundError

TESTED_FLWR = "1.41"
"""The release whose private names these are; a test fails when another one is installed."""

SERVER_NODE_ID = 1


def identify_process(run_id: int) -> None:
    """Let messages be made in this process, as the server's side of run ``run_id``."""
    TaskIdentity.task_id = 1
    TaskIdentity.run_id = run_id
    TaskIdentity.node_id = SERVER_NODE_ID


def set_message_id(message: Message, message_id: str) -> None:
    """Give a message the id that a SuperLink would have given it."""
    message.metadata.__dict__["_message_id"] = message_id


@contextmanager
def borrowed_identity() -> Iterator[None]:
    """An identity for messages that are made here and sent nowhere; the process has its own again afterwards."""
    before = (TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id)
    identify_process(run_id=0)
    try:
        yield
    finally:
        TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = before


IDLE_POLL_S = 3.0
"""What Flower's SuperNode sleeps when the SuperLink has no message for it."""
BUSY_POLL_S = 0.5
"""What it sleeps instead while a run is under way, which its own messages show."""
REPLY_POLL_S = 0.1
"""What it sleeps between two looks, on its own machine, for the reply to a message."""
BUSY_FOR_S = 60.0


class _PollingTime:
    """Stands for the module ``time`` in the SuperNode's loop, so that it sleeps shorter while there is work.

    The loop sleeps in other steps than ``IDLE_POLL_S`` only while it waits for the reply to a message.
    """

    def __init__(self) -> None:
        self._busy_until = 0.0

    def sleep(self, seconds: float) -> None:
        """Sleep as long as fits what the loop waits for; an idle node sleeps as Flower's own does."""
        now = time.monotonic()
        if seconds != IDLE_POLL_S:
            self._busy_until = now + BUSY_FOR_S
            time.sleep(REPLY_POLL_S)
        else:
            time.sleep(BUSY_POLL_S if now < self._busy_until else IDLE_POLL_S)


def run_supernode() -> None:
    """``flower-supernode``, with this process's arguments, that asks oftener while a run is under way."""
    from flwr.supernode import start_client_internal
    from flwr.supernode.cli import flower_supernode

    vars(start_client_internal)["time"] = _PollingTime()
    flower_supernode()


class ControlApi:
    """The Control API of a SuperLink on this machine, which asks nobody who they are.

    Args:
        address: "host:port".
        root_certificate: PEM of the authority that signed the SuperLink's certificate.

    Raises:
        RoundError: from every method: the SuperLink does not answer within 30 s, or refuses.
    """

    def __init__(self, address: str, root_certificate: bytes) -> None:
        self._address = address
        self._root_certificate = root_certificate

    def register_node(self, public_key: bytes, name: str) -> str:
        """Let the SuperNode with this key (SubjectPublicKeyInfo, PEM) in; gives its node id."""
        from flwr.proto.control_pb2 import RegisterNodeRequest

        return str(self._call("RegisterNode", RegisterNodeRequest(public_key=public_key, name=name)).node_id)

    def unregister_node(self, node_id: str) -> None:
        """Let it out again."""
        from flwr.proto.control_pb2 import UnregisterNodeRequest

        self._call("UnregisterNode", UnregisterNodeRequest(node_id=int(node_id)))

    def run_status(self, run_id: str) -> str:
        """Flower's word for how a run is: pending, starting, running or finished."""
        from flwr.proto.control_pb2 import ListRunsRequest

        runs = self._call("ListRuns", ListRunsRequest(run_id=int(run_id))).run_dict
        return str(runs[int(run_id)].status.status)

    def stop_run(self, run_id: str) -> None:
        """End a run and its ServerApp."""
        from flwr.proto.control_pb2 import StopRunRequest

        if not self._call("StopRun", StopRunRequest(run_id=int(run_id))).success:
            raise RoundError(f"flower: run {run_id} could not be stopped")

    def _call(self, method: str, request: Any) -> Any:
        import httpx
        from flwr.supercore.control import ControlHttpClient
        from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

        version = [RuntimeVersionHttpInterceptor(component_name="flwr CLI")]
        client = ControlHttpClient.from_server_address(self._address, False, self._root_certificate, version)
        try:
            return getattr(client, method)(request)
        except httpx.HTTPStatusError as error:
            raise RoundError(f"flower: {method}: refused with {error.response.text.strip()[:300]}") from None
        except (httpx.HTTPError, ValueError) as error:
            raise RoundError(f"flower: {method}: no answer from the SuperLink ({error})") from None
        finally:
            client.close()
