"""The trainer's side of its socket: a gRPC service that turns calls into questions to the trainer of one client.

The socket is guarded by file permissions alone: whoever may open it may ask, and nobody else. What goes wrong inside
a task becomes the answer to that task and never ends the service. The text of an unexpected error stays on the
device, because it may quote private examples or their number; only its kind travels.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import grpc

from fl_client.shell.protocol import SERVICE, address, decode_task, encode_info, failure, joined, success
from fl_client.shell.trainer_api import TrainerApi
from fl_client.trainer.counters import Spending, TaskCounters
from fl_client.trainer.queue import TaskQueue
from fl_core import __version__
from fl_core.errors import ConfigError, PrivacyError, StonecropError, TrainerError
from fl_core.process.structured_log import logged_with
from fl_core.types import RoundPlan, Tensors

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
        tally: where tasks are counted.
    """

    def __init__(self, trainer: TrainerApi, spending: Callable[[], Spending], tally: TaskCounters) -> None:
        self._trainer = trainer
        self._spending = spending
        self._tally = tally
        self._desk = TaskQueue()

    def handlers(self) -> grpc.GenericRpcHandler:
        """The methods of the service, each a stream of chunks both ways."""
        works: dict[str, Callable[[bytes], bytes]] = {
            "info": lambda request: encode_info(self._trainer.info()),
            "status": lambda request: json.dumps(self.status()).encode(),
            "ranges": self._queued("ranges", self._trainer.ranges),
            "train": self._queued("train", self._trainer.train),
            "evaluate": self._queued("evaluate", self._evaluate),
        }
        methods = {name: grpc.stream_stream_rpc_method_handler(partial(respond, work)) for name, work in works.items()}
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def status(self) -> dict[str, object]:
        """Counters, open tasks and spending as plain values."""
        return {**self._tally.figures(), "open": self._desk.waiting, "privacy": asdict(self._spending())}

    def _evaluate(self, plan: RoundPlan, model: Tensors) -> bytes:
        return json.dumps(self._trainer.evaluate(plan, model)).encode()

    def _queued(self, name: str, ask: Callable[[RoundPlan, Tensors], bytes]) -> Callable[[bytes], bytes]:
        return lambda request: self._desk.do(name, request, partial(self._counted, ask))

    def _counted(self, ask: Callable[[RoundPlan, Tensors], bytes], request: bytes) -> bytes:
        try:
            plan, model = decode_task(request, __version__)
            with logged_with(run=plan.run, round=plan.round, client_id=plan.client_id):
                return self._logged(ask, plan, model)
        except PrivacyError:
            self._tally.refused()
            raise
        except Exception:
            self._tally.failed()
            raise

    def _logged(self, ask: Callable[[RoundPlan, Tensors], bytes], plan: RoundPlan, model: Tensors) -> bytes:
        try:
            result = ask(plan, model)
        except PrivacyError as refusal:
            logger.warning("refused: %s", refusal)
            raise
        except StonecropError as error:
            logger.warning("failed: %s", error)
            raise
        except Exception as error:
            raise _kept_here(error) from error
        self._tally.finished(plan.run, plan.round)
        logger.info("run %s, round %d: task %s answered with %d bytes", plan.run, plan.round, plan.task_id, len(result))
        return result


def respond(work: Callable[[bytes], bytes], chunks: Iterable[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    """The messages that answer one call."""
    try:
        result = work(joined(chunks))
    except StonecropError as error:
        return failure(error)
    except Exception as error:
        return failure(_kept_here(error))
    return success(result)


def _kept_here(error: Exception) -> TrainerError:
    """What travels of an error whose text must not; the device's log has all of it."""
    logger.error("a task failed", exc_info=error)
    return TrainerError(f"the task failed with {type(error).__name__}; the device's own log says more")


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
