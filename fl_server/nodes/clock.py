"""Time as the round loop sees it: the wall's, or that of a simulated fleet, which keeps its own and loses nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol


class Clock(Protocol):
    """What time it is for a round loop, and how it passes."""

    def now_s(self) -> float:
        """Seconds since some fixed moment."""

    def pause(self, wait_s: float, until_s: float) -> None:
        """Let time pass: ``wait_s`` where it is real, to the next arrival where it is not; never beyond ``until_s``."""

    def save(self) -> Mapping[str, Any] | None:
        """What a checkpoint must keep of it; None for real time."""

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from what ``save`` gave."""

    def again(self, sent_s: float) -> AbstractContextManager[None]:
        """Inside, tasks are asked that were first asked at ``sent_s``, before a crash."""


class WallClock:
    """Real time."""

    def now_s(self) -> float:
        return time.monotonic()

    def pause(self, wait_s: float, until_s: float) -> None:
        time.sleep(max(0.0, min(wait_s, until_s - time.monotonic())))

    def save(self) -> None:
        return None

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Real time has gone on by itself."""

    def again(self, sent_s: float) -> AbstractContextManager[None]:
        return nullcontext()
