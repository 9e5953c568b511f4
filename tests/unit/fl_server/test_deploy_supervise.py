"""The supervisor keeps real processes up, ends all of them, and ends what a killed supervisor left behind."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from fl_core.errors import RoundError
from fl_server.deploy.supervise import LONGEST_WAIT_S, Service, Supervisor, wait_until

SLEEP = "import time; time.sleep(60)"
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}], start_new_session=True); {SLEEP}"


def service(name: str, code: str, ready: Callable[[], bool] = lambda: True) -> Service:
    return Service(name, (sys.executable, "-S", "-c", code), dict(os.environ), ready)


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[..., Supervisor]]:
    made: list[Supervisor] = []

    def make(*services: Service) -> Supervisor:
        made.append(Supervisor(services, tmp_path / "logs", tmp_path / "processes.json"))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def pid_of(supervisor: Supervisor, name: str) -> int:
    pid = supervisor.describe()[name]["pid"]
    assert isinstance(pid, int)
    return pid


def start(supervisor: Supervisor) -> None:
    wait_until(lambda: supervisor.ready, supervisor.step, 20, "processes")


def test_what_is_killed_runs_again(supervise):
    supervisor = supervise(service("one", SLEEP), service("two", SLEEP))
    start(supervisor)
    first, other = pid_of(supervisor, "one"), pid_of(supervisor, "two")
    psutil.Process(first).kill()
    wait_until(lambda: not supervisor.ready, supervisor.step, 5, "the death is noticed")
    start(supervisor)
    assert pid_of(supervisor, "one") != first
    assert pid_of(supervisor, "two") == other
    assert supervisor.describe()["one"]["restarts"] == 1


def test_what_dies_at_once_is_started_less_and_less_often(supervise, tmp_path):
    ran = tmp_path / "ran"
    supervisor = supervise(service("sick", f"open({str(ran)!r}, 'a').write('x')", ready=lambda: False))
    ends = time.monotonic() + 4
    while time.monotonic() < ends:
        supervisor.step()
        time.sleep(0.02)
    assert 2 <= len(ran.read_text()) <= 4  # after 1 s, 2 s, 4 s, and so on up to the longest wait
    assert LONGEST_WAIT_S <= 60


def test_one_starts_after_the_one_before_it_is_ready(supervise):
    gate: list[bool] = []
    supervisor = supervise(service("first", SLEEP, ready=lambda: bool(gate)), service("second", SLEEP))
    for _ in range(3):
        supervisor.step()
    assert supervisor.describe()["second"]["pid"] is None
    gate.append(True)
    start(supervisor)
    assert supervisor.describe()["second"]["pid"] is not None


def test_children_in_sessions_of_their_own_are_ended_too(supervise):
    supervisor = supervise(service("parent", PARENT))
    start(supervisor)
    parent = psutil.Process(pid_of(supervisor, "parent"))
    wait_until(lambda: bool(parent.children()), lambda: None, 20, "the child")
    child = parent.children()[0]
    supervisor.stop()
    assert not parent.is_running()
    assert not child.is_running()


def test_the_next_supervisor_ends_what_a_killed_one_left_behind(supervise):
    killed = supervise(service("one", SLEEP))
    start(killed)
    process = psutil.Process(pid_of(killed, "one"))
    following = supervise(service("one", SLEEP))
    assert following.end_leftovers() == 1
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    assert following.end_leftovers() == 0


def test_waiting_for_what_never_comes_says_what(supervise):
    with pytest.raises(RoundError, match="Godot"):
        wait_until(lambda: False, lambda: None, 0.2, "Godot")
