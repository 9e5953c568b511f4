"""The trainer's side of its socket: a gRPC service that turns calls into questions to the trainer of one client.

The socket is guarded by file permissions alone: whoever may open it may ask, and nobody else. What goes wrong inside
a task becomes the answer to that task and never ends the service. The text of an unexpected error stays on the
device, for it may quote private examples or their number; only its kind travels.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import grpc

from fl_client.shell.protocol import SERVICE, STATUS, address, failure, read_request, success
from fl_client.trainer.calls import Call, CallTrainer, read_call
from fl_client.trainer.counters import Spending, TaskCounters
from fl_client.trainer.queue import TaskQueue
from fl_core.errors import ConfigError, PrivacyError, StonecropError, TrainerError
from fl_core.process.structured_log import logged_with
from fl_core.questions import PLAN, QUESTIONS, Question, Request
from fl_core.types import RoundPlan

logger = logging.getLogger(__name__)

SOCKET_MODE = 0o660
_FOLDER_MODE = 0o750
_CALLS = 16
"""Threads that take calls; each delivery that waits for a running task holds one."""


class Service:
    """Answers calls for one trainer.

    Args:
        trainer: the one that is asked.
        spending: what its data set has spent by now.
        counters: where tasks are counted.
        give_up: set where the running task is to end with its step.
    """

    def __init__(
        self,
        trainer: CallTrainer,
        spending: Callable[[], Spending],
        counters: TaskCounters,
        give_up: threading.Event | None = None,
    ) -> None:
        self._trainer = trainer
        self._spending = spending
        self._counters = counters
        self._give_up = give_up or threading.Event()
        self._queue = TaskQueue()
        self._latest: RoundPlan | None = None
        """The plan that is at work, or was the last."""

    def handlers(self) -> grpc.GenericRpcHandler:
        """The methods of the service, one a question, each a stream of chunks both ways."""
        works: dict[str, Callable[[Request], bytes]] = {
            question.name: partial(self._answer, question) for question in QUESTIONS.values()
        }
        works[STATUS] = lambda request: json.dumps(self.status()).encode()
        methods = {name: grpc.stream_stream_rpc_method_handler(partial(respond, work)) for name, work in works.items()}
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def status(self) -> dict[str, object]:
        """Counters, open tasks and spending as plain values."""
        return {**self._counters.figures(), "open": self._queue.waiting, "privacy": asdict(self._spending())}

    def stop(self, task_s: float, step_s: float) -> bool:
        """Take no further task; wait for the running one, and give it up with its step where it takes too long.

        Args:
            task_s: how long to wait for its end.
            step_s: how long to wait then for the end of its step.

        Gives whether nothing is at work any more.
        """
        self._queue.close()
        if self._queue.drained(0.0):
            return True
        logger.info("stopping: the task that is at work may take %g s more", task_s)
        if self._queue.drained(task_s):
            return True
        self._give_up.set()
        over, plan = self._queue.drained(step_s), self._latest
        if plan is not None:
            with logged_with(run=plan.run, round=plan.round, client_id=plan.client_id):
                spent = self._spending().in_words()
                logger.warning("task %s took more than %g s and is lost: %s", plan.task_id, task_s, spent)
        return over

    def _answer(self, question: Question, request: Request) -> bytes:
        """A question with a plan waits for its turn and is counted; any other is answered at once."""
        if PLAN not in question.request:
            return self._trainer.answer(read_call(question, request))
        return self._queue.do(question.name, request, partial(self._counted, question))

    def _counted(self, question: Question, request: Request) -> bytes:
        try:
            return self._logged(read_call(question, request))
        except PrivacyError:
            self._counters.refused()
            raise
        except Exception:
            self._counters.failed()
            raise

    def _logged(self, call: Call) -> bytes:
        plan = call.plan
        assert plan is not None, "only a question with a plan is queued"
        with logged_with(run=plan.run, round=plan.round, client_id=plan.client_id):
            self._latest = plan
            try:
                reply = self._trainer.answer(call)
            except PrivacyError as refusal:
                logger.warning("refused: %s", refusal)
                raise
            except StonecropError as error:
                logger.warning("failed: %s", error)
                raise
            except Exception as error:
                raise _kept_here(error) from error
            self._counters.finished(plan.run, plan.round)
            told = (plan.run, plan.round, plan.task_id, len(reply))
            logger.info("run %s, round %d: task %s answered with %d bytes", *told)
            return reply


def respond(
    work: Callable[[Request], bytes], chunks: Iterator[bytes], context: grpc.ServicerContext
) -> Iterator[bytes]:
    """The messages that answer one call."""
    try:
        reply = work(read_request(chunks))
    except StonecropError as error:
        return failure(error)
    except Exception as error:
        return failure(_kept_here(error))
    return success(reply)


def _kept_here(error: Exception) -> TrainerError:
    """What travels of an error whose text must not; the device's log has all of it."""
    logger.error("a task failed", exc_info=error)
    kind = type(error).__name__
    if isinstance(error, OSError) and error.errno is not None:  # a full disk, say, which its path tells nobody
        kind += f" ({os.strerror(error.errno)})"
    return TrainerError(f"the task failed with {kind}; the device's own log says more")


def listen(service: Service, socket: Path, group: str | None = None) -> grpc.Server:
    """A started server on the Unix socket ``socket``, with mode 0660; its folder is made where there is none.

    Args:
        service: what answers.
        socket: where; a stale file there is replaced. The caller holds the trainer's home, so it is nobody's.
        group: the group whose members may ask, beside the trainer's own user; the process's own group by default.

    Raises:
        ConfigError: the path cannot be used, or there is no such group.
    """
    server = grpc.server(ThreadPoolExecutor(_CALLS, thread_name_prefix="call"))
    server.add_generic_rpc_handlers((service.handlers(),))
    try:
        if not socket.parent.exists():
            socket.parent.mkdir(parents=True)
            socket.parent.chmod(_FOLDER_MODE)
            _give(socket.parent, group)
        before = os.umask(0o777 & ~SOCKET_MODE)  # the socket is never open wider, not for a moment
        try:
            server.add_insecure_port(address(socket))
        finally:
            os.umask(before)
        _give(socket, group)
    except (OSError, RuntimeError, LookupError) as error:
        raise ConfigError(f"trainer socket {socket}: cannot be used ({error})") from None
    server.start()
    return server


def _give(path: Path, group: str | None) -> None:
    if group is not None:
        shutil.chown(path, group=group)
