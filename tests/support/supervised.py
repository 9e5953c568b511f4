"""Small processes under a supervisor, for tests: each ends with its test."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fl_core.process.processes import processes_of
from fl_core.process.supervise import ProcessSpec, Supervisor

SLEEP = "import time; time.sleep(60)"
PARENT = f"import subprocess; subprocess.Popen(['sleep', '60'], start_new_session=True); {SLEEP}"
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).resolve().parents[2])}


def part(code: str, name: str = "part", *arguments: str, **more: Any) -> ProcessSpec:
    """A process that runs this Python."""
    return ProcessSpec(name, lambda: [sys.executable, "-S", "-c", code, *arguments], **more)


@contextmanager
def supervised(home: Path, *parts: ProcessSpec) -> Iterator[Supervisor]:
    """A supervisor of these processes, none of which is there afterwards."""
    supervisor = Supervisor(home, home / "run", parts, ENVIRONMENT, first_wait_s=0.1, longest_wait_s=0.4)
    try:
        yield supervisor
    finally:
        supervisor.stop()
    assert processes_of(home) == []


def until(true: Callable[[], bool], step: Callable[[], None] = lambda: None, limit_s: float = 15.0) -> None:
    """Step until something is true."""
    ends = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < ends, "it took too long"
        step()
        time.sleep(0.02)


def pid_of(supervisor: Supervisor, name: str = "part") -> int:
    """The process id of a part that runs."""
    return int(str(supervisor.describe()[name]["pid"]))
