"""Every private name of Flower that Stonecrop needs, in one place, with the reason.

``Message()`` asks ``TaskIdentity`` who is sending, which Flower's own processes set before an app runs; an in-process
Grid has to set it itself. A message gets its id from the SuperLink, so an in-process Grid gives it one. A SuperNode
that has nothing to do sleeps for 3 s before it asks again, which no option changes; ``run_supernode`` does. A SuperExec
starts a process for every message, which imports Flower for more than a second; ``run_superexec`` forks it from one
that has. Flower waits for the parts of one reply before it looks at the next; ``pull_side_by_side`` does not. Flower's
command starts for 2 s before each call of the Control API; ``ControlApi`` makes the short ones from
this process.
"""

from __future__ import annotations

import copy
import importlib
import multiprocessing
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from logging import INFO
from multiprocessing import forkserver
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any

from flwr.app import Message
from flwr.supercore.task_identity import TaskIdentity

from fl_core.errors import RoundError

if TYPE_CHECKING:
    from flwr.serverapp import Grid

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


class _OwnSuperExec:
    """Stands for the module ``subprocess`` where a SuperNode starts its SuperExec."""

    def __init__(self, instead: Sequence[str]) -> None:
        self._instead = instead

    def Popen(self, command: Sequence[str]) -> subprocess.Popen[bytes]:  # noqa: N802
        """Start it, by our command in place of Flower's."""
        return subprocess.Popen([*self._instead, *command[1:]])


def run_supernode(superexec: Sequence[str]) -> None:
    """``flower-supernode``, with this process's arguments, that asks oftener while a run is under way.

    ``superexec`` is the command that it starts in place of ``flower-superexec``.
    """
    from flwr.supernode import start_client_internal
    from flwr.supernode.cli import flower_supernode

    vars(start_client_internal).update(time=_PollingTime(), subprocess=_OwnSuperExec(superexec))
    flower_supernode()


CLIENT_APP = "flwr-clientapp"
"""Flower's command for one message of a ClientApp, and the name of the process that is forked in its place."""


def _client_app(spec: Any) -> None:
    """What ``flwr-clientapp`` does, in a process that was forked for it."""
    from flwr.supercore import log
    from flwr.supercore.tls import validate_and_resolve_root_certificates
    from flwr.supernode.runtime.run_clientapp import run_clientapp

    look_again_soon()
    Path("/proc/self/comm").write_text(CLIENT_APP)
    log(INFO, "Start `%s` process", CLIENT_APP)
    run_clientapp(
        runtime_api_address=spec.runtime_api_address,
        token=spec.token,
        insecure=spec.insecure,
        certificates=validate_and_resolve_root_certificates(spec.root_certificates_path, spec.insecure),
        parent_pid=spec.parent_pid,
        runtime_dependency_install=spec.runtime_dependency_install,
    )


def _forking_executor(preload: Sequence[str]) -> Any:
    """A SuperExec's executor that forks a ClientApp's process from one that has seen no message.

    That one has ``preload`` imported and nothing else done, so each fork begins as clean as a process of its own.
    """
    from flwr.supercore.constant import TaskType
    from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor
    from flwr.supercore.superexec.executor.types import ExecutionSpec, LaunchResult

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "flwr.supernode.runtime.run_clientapp", *preload])
    forkserver.ensure_running()

    class ForkingExecutor(SubprocessExecutor):
        def launch(self, spec: ExecutionSpec) -> LaunchResult:
            if spec.task_type != TaskType.CLIENT_APP:
                return super().launch(spec)
            try:
                context.Process(target=_client_app, args=(spec,), daemon=True).start()
            except (OSError, EOFError):  # that process has died this very moment; the next message finds a new one
                return super().launch(spec)
            return LaunchResult.accepted()

    return ForkingExecutor()


def run_superexec(preload: Sequence[str]) -> None:
    """``flower-superexec``, with this process's arguments, whose ClientApps start with ``preload`` imported."""
    from flwr.supercore.cli import flower_superexec

    loop = importlib.import_module("flwr.supercore.superexec.run_superexec")
    vars(loop)["get_executor"] = lambda *_, **__: _forking_executor(preload)
    flower_superexec()


FIRST_LOOK_S = 0.05
"""How long to wait for a part of a message that has not come yet, before the second look; then twice as long."""


def look_again_soon() -> None:
    """Let this process wait ``FIRST_LOOK_S`` for parts of a message that are under way, where Flower waits for 1 s.

    A message is announced before its parts are there, so whoever is quick to ask would lose that second in each round.
    """
    from flwr.supercore.inflatable import inflatable_utils

    for function in (inflatable_utils.pull_objects, inflatable_utils.pull_and_inflate_object_from_tree):
        defaults: dict[str, Any] = function.__kwdefaults__ or {}
        defaults["initial_backoff"] = FIRST_LOOK_S


class _OneReply:
    """A client of the Runtime API to which one reply has been announced."""

    def __init__(self, client: Any, announced: Any) -> None:
        self._client = client
        self._announced = announced

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def PullMessages(self, request: Any) -> Any:  # noqa: N802
        return self._announced


def pull_side_by_side(grid: Grid) -> None:
    """Let ``grid.pull_messages`` hand out what is there while other replies are still being uploaded.

    A reply is announced before its parts are there, and Flower waits for them one reply after the other: a node that
    dies while it uploads would keep everybody else's updates, and the round, waiting for minutes. The grid gets a
    method ``leave(message_ids)``, too: nobody waits for these replies any more. They are still taken off the SuperLink,
    which would keep them to the end of the run.
    """
    from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PullAppMessagesResponse
    from flwr.superlink.grid.http_grid import HttpGrid

    if not isinstance(grid, HttpGrid):
        return
    client = grid._runtime_client
    underway, left = set[str](), set[str]()
    ready: dict[str, Message] = {}
    taken = Queue[tuple[str, list[Message]]]()

    def take(key: str, announced: Any) -> None:
        found: list[Message] = []
        single = copy.copy(grid)
        vars(single)["_client"] = _OneReply(client, announced)
        try:
            found = list(HttpGrid.pull_messages(single, []))
        finally:
            taken.put((key, found))

    def pull(message_ids: Iterable[str]) -> list[Message]:
        asked = list(message_ids)
        if wanted := (left | set(asked)) - underway - ready.keys():
            response = client.PullMessages(PullAppMessagesRequest(message_ids=sorted(wanted)))
            for message, tree in zip(response.messages_list, response.message_object_trees, strict=True):
                key = message.metadata.reply_to_message_id
                underway.add(key)
                announced = PullAppMessagesResponse(messages_list=[message], message_object_trees=[tree])
                threading.Thread(target=take, args=(key, announced), daemon=True).start()
        with suppress(Empty):
            while True:
                key, found = taken.get_nowait()
                underway.discard(key)
                if found and key in left:
                    left.remove(key)
                elif found:
                    ready[key] = found[0]
        return [ready.pop(key) for key in asked if key in ready]

    def leave(message_ids: Iterable[str]) -> None:
        left.update(key for key in message_ids if ready.pop(key, None) is None)

    vars(grid).update(pull_messages=pull, leave=leave)


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
