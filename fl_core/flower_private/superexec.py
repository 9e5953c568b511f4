"""A board's SuperExec, started as Flower starts it, that forks a ClientApp's process for each message.

Flower's SuperExec starts a process for every message, which imports Flower for more than a second and runs whatever
code a server sends. Here everything is imported already, and the process runs the app that is installed and checks
what was sent. For a process that is killed before it has its message a SuperNode waits for ever, and for one that is
killed later half a minute; here it hears of both at once.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import multiprocessing
import signal
from collections.abc import Callable
from contextlib import suppress
from logging import INFO
from typing import Any

from fl_core.flower_private.grid import look_again_soon

_PR_SET_NAME = 15  # of prctl(2); a SuperExec has no right to its own files in /proc, unless it is root's
CLIENT_APP = "flwr-clientapp"
"""Flower's command for one message of a ClientApp, and the name of the process that is forked in its place."""
_RUNTIME = "flwr.supernode.runtime.run_clientapp"


CheckBundle = Callable[[bytes], None]
"""Raises where a server's app bundle, a zip archive, is not the expected one."""


def run_client_app(spec: Any, app: Any, check_bundle: CheckBundle) -> None:
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


def forking_executor(app: Any, check_bundle: CheckBundle) -> Any:
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
            process = context.Process(target=run_client_app, args=(spec, app, check_bundle), daemon=True)
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
    vars(loop)["get_executor"] = lambda *_, **__: forking_executor(app, check_bundle)
    flower_superexec()
