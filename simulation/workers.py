"""Processes that work for this one, and end with it: a Ctrl-C is this process's alone, which then ends the others.

A worker never hears Ctrl-C, which a terminal sends to all of them: it would end one task and begin the next. It is
ended by a signal of its own, which it takes while it starts or works and not while it hands over a result, for half
a result would be waited for without end.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

_END = signal.SIGUSR1

Result = TypeVar("Result")


@contextmanager
def worker_pool(
    count: int, begin: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """A pool of ``count`` processes, each of which calls ``begin`` first.

    Whatever leaves the block early ends them where they are, and lets them begin nothing more.
    """
    before = set(multiprocessing.active_children())
    with _Pool(count, multiprocessing.get_context("spawn"), begin, arguments) as pool:
        try:
            yield pool
        except BaseException:
            workers = set(multiprocessing.active_children()) - before
            for pid in (worker.pid for worker in workers if worker.pid is not None):
                with suppress(ProcessLookupError):
                    os.kill(pid, _END)
            pool.shutdown(cancel_futures=True)
            raise


class _Pool(ProcessPoolExecutor):
    """A pool whose processes can be ended while they work, and then alone."""

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        """Hand over a task; a process that is started for it has the signal mask of the thread that starts it."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(_work, fn, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(task: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {_END})
    try:
        return task(*args, **kwargs)
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, {_END})
