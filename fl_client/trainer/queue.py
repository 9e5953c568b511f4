"""One task at a time: a second delivery of a running task waits for the result of the first and trains nothing.

A queue that was closed ends the running task and begins no other.

Flower delivers a message again when a shell died under it. By then the task is running, or settled in the ledger with
its reply; the first case is this module's, the second the trainer's own.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait

from fl_core.errors import TrainerError
from fl_core.questions import Request


class TaskQueue:
    """Runs work on one thread, in the order in which it came."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, Future[bytes]] = {}
        self._closed = False
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="task")

    @property
    def waiting(self) -> int:
        """Tasks that run or wait to run."""
        with self._lock:
            return len(self._open)

    def do(self, method: str, request: Request, work: Callable[[Request], bytes]) -> bytes:
        """What ``work`` gives for ``request``; equal requests that overlap in time share one run of it.

        Raises:
            TrainerError: the queue was closed before this work began.
            Exception: whatever ``work`` raised, for every delivery that waited for it.
        """
        key = " ".join([method, *(hashlib.sha256(item).hexdigest() for item in request)])
        with self._lock:
            future = self._open.get(key)
            if future is None:
                if self._closed:
                    raise _stopping()
                future = self._open[key] = self._worker.submit(self._run, key, request, work)
        try:
            return future.result()
        except CancelledError:
            raise _stopping() from None

    def close(self) -> None:
        """Begin no further work; what waits for its turn is refused, what runs goes on."""
        with self._lock:
            self._closed = True
            self._open = {key: future for key, future in self._open.items() if not future.cancel()}

    def drained(self, limit_s: float) -> bool:
        """Wait until no work is open, for at most ``limit_s``; says whether that is so."""
        with self._lock:
            futures = list(self._open.values())
        return not wait(futures, limit_s).not_done

    def _run(self, key: str, request: Request, work: Callable[[Request], bytes]) -> bytes:
        try:
            return work(request)
        finally:
            with self._lock:
                del self._open[key]


def _stopping() -> TrainerError:
    return TrainerError("trainer: it is stopping and takes no further task; expected one that stays")
