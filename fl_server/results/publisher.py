"""Publishes rounds in a thread of its own, one after the other, so that no round waits for the artefacts of another."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from types import TracebackType

from fl_core.process.structured_log import logged_with
from fl_server.results.publish import Publication


class Publisher:
    """A worker thread and the rounds that wait for it, in the order in which they were handed over.

    What a publication raises that is no veto is raised again by the next ``submit``, ``check`` or ``finish``, in the
    thread of the round loop; nothing is published after it. As a context it ends with ``finish``, or, left by
    an exception, lets the publication under way end and drops the rest: a resumed run makes up for them.
    """

    def __init__(self, publish: Callable[[Publication], None]) -> None:
        self._publish = publish
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="publisher")
        self._open: set[int] = set()
        self._failure: BaseException | None = None

    @property
    def unpublished(self) -> frozenset[int]:
        """The rounds that were handed over and are not published yet; the event of any other is in the log."""
        return frozenset(self._open)

    def submit(self, publication: Publication) -> None:
        """Publish a round after those that wait already.

        Raises:
            Exception: what a publication before it raised.
        """
        self.check()
        self._open.add(publication.round)
        self._worker.submit(copy_context().run, self._run, publication)

    def check(self) -> None:
        """Say whether all went well so far, without a wait.

        Raises:
            Exception: what a publication raised.
        """
        if self._failure is not None:
            raise self._failure

    def finish(self) -> None:
        """Wait until everything is published.

        Raises:
            Exception: what a publication raised.
        """
        self._worker.shutdown(wait=True)
        self.check()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is None:
            self.check()

    def _run(self, publication: Publication) -> None:
        if self._failure is not None:
            return
        try:
            with logged_with(round=publication.round):
                self._publish(publication)
        except BaseException as error:
            self._failure = error
        else:
            self._open.discard(publication.round)
