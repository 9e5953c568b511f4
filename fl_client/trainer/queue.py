"""One task at a time: a second delivery of a running task waits for the result of the first and trains nothing.

Flower delivers a message again when a shell died under it. By then the task is running, or settled in the ledger with
its reply; the first case is this module's, the second the trainer's own.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from fl_core.questions import Request


class TaskQueue:
    """Runs work on one thread, in the order in which it came."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, Future[bytes]] = {}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="task")

    @property
    def waiting(self) -> int:
        """Tasks that run or wait to run."""
        with self._lock:
            return len(self._open)

    def do(self, method: str, request: Request, work: Callable[[Request], bytes]) -> bytes:
        """What ``work`` gives for ``request``; equal requests that overlap in time share one run of it.

        Raises:
            Exception: whatever ``work`` raised, for every delivery that waited for it.
        """
        key = " ".join([method, *(hashlib.sha256(item).hexdigest() for item in request)])
        with self._lock:
            future = self._open.get(key)
            if future is None:
                future = self._open[key] = self._worker.submit(self._run, key, request, work)
        return future.result()

    def _run(self, key: str, request: Request, work: Callable[[Request], bytes]) -> bytes:
        try:
            return work(request)
        finally:
            with self._lock:
                del self._open[key]
