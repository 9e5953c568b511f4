"""A board's SuperNode and its SuperExec, started as Flower starts them, with what no option changes.

A SuperNode that has nothing to do sleeps for 3 s before it asks again; ``run_supernode`` asks oftener while there is
work, and seldomer while the server is slow to answer. A SuperExec starts a process for every message, which imports
Flower for more than a second; ``run_superexec`` has it imported, and forks. That process runs whatever code a server
sends; here it runs the app that is installed, and checks what was sent. For a process that is killed before it has
its message a SuperNode waits for ever, and for one that is killed later half a minute; here it hears of both at once.
A SuperNode that was killed keeps its successor out for a minute; here the successor gives its place back first.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import multiprocessing
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from logging import INFO
from pathlib import Path
from typing import Any, Protocol

from fl_core.flower_private.grid import look_again_soon

IDLE_POLL_S = 3.0
"""What Flower's SuperNode sleeps when the SuperLink has no message for it."""
BUSY_POLL_S = 0.5
"""What it sleeps instead while a run is under way, which its own messages show."""
REPLY_POLL_S = 0.1
"""What it sleeps between two looks, on its own machine, for the reply to a message."""
BUSY_FOR_S = 60.0
REST_SHARE, LONGEST_REST_S = 9.0, 10.0
"""After a question a SuperNode sleeps at least so many times as long as the answer took, and never longer for that.

So whatever their number, nodes that ask often take a share of a SuperLink that is at its limit, and leave it no queue.
"""


class _PollingTime:
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


def _state_of_one_message() -> type[Any]:
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


def _forgetting(pull_and_store: Callable[..., int | None]) -> Callable[..., int | None]:
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
    """What is known of the SuperNode that was here before."""

    def left_behind(self) -> int | None:
        """Its node id, if it is gone and has not said so to the SuperLink."""

    def take(self, node_id: int) -> None:
        """Another one has its place."""


def _giving_back(stock: type[Any], lease: Lease) -> type[Any]:
    """A client of the Fleet API that takes the place of a dead SuperNode from it before it asks for one."""
    import httpx
    from flwr.proto.fleet_pb2 import DeactivateNodeRequest

    class Client(stock):  # type: ignore[misc]
        def ActivateNode(self, request: Any) -> Any:  # noqa: N802
            node_id = lease.left_behind()
            if node_id is not None:
                with suppress(httpx.HTTPStatusError):  # it holds none, or a server that is another one has never had it
                    self.DeactivateNode(DeactivateNodeRequest(node_id=node_id))
            activated = super().ActivateNode(request)
            lease.take(activated.node_id)
            return activated

    return Client


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

    pull = _forgetting(start_client_internal._pull_and_store_message)
    vars(start_client_internal).update(
        time=_PollingTime(), subprocess=_OwnSuperExec(superexec), _pull_and_store_message=pull
    )
    vars(nodestate_factory)["InMemoryNodeState"] = _state_of_one_message()
    vars(fleet_http_connection)["FleetHttpClient"] = _giving_back(FleetHttpClient, lease_in(get_flwr_home()))
    flower_supernode()
    flwr_exit(ExitCode.SUPERNODE_CONNECTION_ERROR, "The SuperNode has lost its connection to the SuperLink.")


_PR_SET_NAME = 15  # of prctl(2); a SuperExec has no right to its own files in /proc, unless it is root's
CLIENT_APP = "flwr-clientapp"
"""Flower's command for one message of a ClientApp, and the name of the process that is forked in its place."""
_RUNTIME = "flwr.supernode.runtime.run_clientapp"


CheckBundle = Callable[[bytes], None]
"""Raises where a server's app bundle, a zip archive, is not the expected one."""


def _client_app(spec: Any, app: Any, check_bundle: CheckBundle) -> None:
    """What ``flwr-clientapp`` does, in a process that was forked for it; but it installs and loads no code."""
    from flwr.supercore import log
    from flwr.supercore.exit import exit_handler
    from flwr.supercore.tls import validate_and_resolve_root_certificates

    runtime = importlib.import_module(_RUNTIME)
    vars(runtime).update(
        install_from_fab=lambda content, **_: check_bundle(content), get_load_client_app_fn=lambda **_: lambda *_: app
    )
    exit_handler.registered_exit_handlers.clear()  # of the SuperExec, with its signals
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    look_again_soon()
    ctypes.CDLL(None).prctl(_PR_SET_NAME, CLIENT_APP.encode())
    log(INFO, "Start `%s` process", CLIENT_APP)
    runtime.run_clientapp(
        runtime_api_address=spec.runtime_api_address,
        token=spec.token,
        insecure=spec.insecure,
        certificates=validate_and_resolve_root_certificates(spec.root_certificates_path, spec.insecure),
        parent_pid=spec.parent_pid,
        runtime_dependency_install=spec.runtime_dependency_install,
    )


def _say_that_it_failed(spec: Any, why: str) -> None:
    """Tell the SuperNode that there will be no result, where no process of the task does so itself."""
    import httpx
    from flwr.common.constant import SubStatus
    from flwr.proto.runtime_pb2 import PushTaskOutputRequest
    from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, RuntimeVersionHttpInterceptor
    from flwr.supercore.runtime import RuntimeHttpClient
    from flwr.supercore.tls import validate_and_resolve_root_certificates

    client = RuntimeHttpClient.from_server_address(
        server_address=spec.runtime_api_address,
        insecure=spec.insecure,
        root_certificates=validate_and_resolve_root_certificates(spec.root_certificates_path, spec.insecure),
        interceptors=[
            RuntimeVersionHttpInterceptor(component_name=CLIENT_APP),
            RuntimeTokenHttpInterceptor(spec.token),
        ],
    )
    with suppress(httpx.HTTPError):  # it has said so, or the SuperNode is gone
        client.PushTaskOutput(PushTaskOutputRequest(sub_status=SubStatus.FAILED, details=why))
    client.close()


def _forking_executor(app: Any, check_bundle: CheckBundle) -> Any:
    """A SuperExec's executor that forks a ClientApp's process from its own, which has imported all that one needs.

    It runs nothing else: what kind of task a message is, its server says, and other kinds would run that server's code.
    A SuperExec has one more thread, which looks for its parent now and then and holds no lock.
    """
    from flwr.supercore.constant import TaskType
    from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor
    from flwr.supercore.superexec.executor.types import ExecutionSpec, LaunchResult

    importlib.import_module(_RUNTIME)
    gc.collect()
    gc.freeze()  # so that a fork's garbage collection copies no pages
    context = multiprocessing.get_context("fork")
    running: dict[Any, ExecutionSpec] = {}

    class ForkingExecutor(SubprocessExecutor):
        def launch(self, spec: ExecutionSpec) -> LaunchResult:
            if spec.task_type != TaskType.CLIENT_APP:
                why = f"a task of the type {spec.task_type.value}: a board runs its own ClientApp alone"
                _say_that_it_failed(spec, why)
                return LaunchResult.failed(why)
            process = context.Process(target=_client_app, args=(spec, app, check_bundle), daemon=True)
            process.start()
            running[process] = spec
            return LaunchResult.accepted()

        def reconcile(self) -> None:
            for process in [process for process in running if not process.is_alive()]:
                spec = running.pop(process)
                if process.exitcode:
                    _say_that_it_failed(spec, f"the process ended with {process.exitcode}")

    return ForkingExecutor()


def run_superexec(app: Any, check_bundle: CheckBundle) -> None:
    """``flower-superexec``, with this process's arguments, that answers each message by the ClientApp ``app``.

    ``check_bundle`` sees the bundle that came with the message; when it raises, that error is the reply to the server.
    """
    from flwr.supercore.cli import flower_superexec

    loop = importlib.import_module("flwr.supercore.superexec.run_superexec")
    vars(loop)["get_executor"] = lambda *_, **__: _forking_executor(app, check_bundle)
    flower_superexec()
