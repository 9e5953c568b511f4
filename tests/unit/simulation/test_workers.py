"""Processes of a pool are deaf to Ctrl-C, and end with the block that opened them, wherever they are."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from simulation.workers import worker_pool


def begin(path: Path) -> None:
    path.touch()
    time.sleep(60)


def hear_ctrl_c() -> str:
    os.kill(os.getpid(), signal.SIGINT)
    return "went on"


def interrupted(folder: Path, begun: int, first: Callable[..., None] | None = None) -> None:
    """Leave a pool by Ctrl-C once so many of its tasks have begun; ``first`` is what its workers start with."""
    with worker_pool(2, first, (60,) if first else ()) as pool:
        for number in range(6):
            pool.submit(begin, folder / str(number))
        while len(list(folder.iterdir())) < begun:
            time.sleep(0.05)
        raise KeyboardInterrupt


@pytest.mark.parametrize(("begun", "first"), [(2, None), (0, time.sleep)], ids=["at work", "starting"])
def test_who_leaves_early_ends_every_worker_and_lets_nothing_more_begin(
    tmp_path: Path, begun: int, first: Callable[..., None] | None
) -> None:
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path, begun, first)
    assert time.monotonic() - started < 30
    assert multiprocessing.active_children() == []
    assert len(list(tmp_path.iterdir())) == begun


def test_a_worker_does_not_hear_ctrl_c_and_goes_on() -> None:
    with worker_pool(2) as pool:
        said = [pool.submit(hear_ctrl_c) for _ in range(4)]
        assert [each.result() for each in said] == ["went on"] * 4
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
