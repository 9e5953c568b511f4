"""The supervisor against real processes: what dies comes back, orphans go, nothing outlives it, nothing gives up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fl_client.device.processes import processes_of, pss_bytes
from fl_client.resident import supervise
from fl_client.resident.explain import End, explain_clock, explain_end, with_clock
from fl_client.resident.supervise import Part, Supervisor, parts_running
from fl_core.errors import ServerAwayError

PARENT = "import subprocess, sys, time; subprocess.Popen(['sleep', '60']); time.sleep(60)"
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).resolve().parents[3])}


def part(code: str, name: str = "part", **more: object) -> Part:
    return Part(name, lambda: [sys.executable, "-c", code], **more)


@contextmanager
def supervised(home: Path, *parts: Part) -> Iterator[Supervisor]:
    supervisor = Supervisor(home, parts, ENVIRONMENT)
    try:
        yield supervisor
    finally:
        supervisor.stop()
    assert processes_of(home) == []


def until(true: Callable[[], bool], step: Callable[[], None] = lambda: None, limit_s: float = 15.0) -> None:
    ends = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < ends, "it took too long"
        step()
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "FIRST_WAIT_S", 0.1)
    monkeypatch.setattr(supervise, "LONGEST_WAIT_S", 0.4)


def test_a_part_that_is_killed_comes_back_and_its_orphan_is_gone(tmp_path):
    with supervised(tmp_path, part(PARENT)) as supervisor:
        until(lambda: len(processes_of(tmp_path)) == 2, supervisor.step)
        before = {found.pid for found in processes_of(tmp_path)}
        os.kill(int(str(supervisor.describe()["part"]["pid"])), signal.SIGKILL)
        until(lambda: supervisor.describe()["part"]["restarts"] == 1, supervisor.step)
        until(lambda: len(processes_of(tmp_path)) == 2, supervisor.step)
        assert not before & {found.pid for found in processes_of(tmp_path)}
        assert parts_running(tmp_path) == {os.getpid(): "supervisor", supervisor.describe()["part"]["pid"]: "part"}
        assert supervisor.describe()["part"]["said"] == "was ended by SIGKILL"
    assert parts_running(tmp_path) == {}


def test_a_killed_supervisor_takes_its_parts_with_it_and_the_next_one_ends_the_rest(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from fl_client.resident.supervise import Part, Supervisor\n"
        f"s = Supervisor(Path({str(tmp_path)!r}), [Part('part', lambda: [sys.executable, '-c', {PARENT!r}])], "
        f"{ENVIRONMENT!r})\nwhile True:\n    s.step(); time.sleep(0.05)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env=ENVIRONMENT)
    try:
        until(lambda: len(processes_of(tmp_path)) == 2)
    finally:
        process.kill()
        process.wait()
    until(lambda: [found.name.split()[0] for found in processes_of(tmp_path)] == ["sleep"])
    assert Supervisor(tmp_path, [part(PARENT)], ENVIRONMENT).end_leftovers() == 1
    until(lambda: processes_of(tmp_path) == [])


def test_a_part_that_never_runs_is_tried_for_ever_with_waits_that_stop_growing_and_said_once(tmp_path, caplog):
    broken = part("raise SystemExit('no network')", explain=lambda tail: End(tail.strip().splitlines()[-1]))
    with supervised(tmp_path, broken) as supervisor:
        until(lambda: int(str(supervisor.describe()["part"]["restarts"])) >= 6, supervisor.step)
        assert supervisor.describe()["part"]["said"] == "no network"
    assert len([record for record in caplog.records if "no network" in record.message]) == 1


def test_a_program_that_is_missing_is_tried_again(tmp_path):
    with supervised(tmp_path, Part("part", lambda: ["/nowhere/program"])) as supervisor:
        supervisor.step()
        assert "cannot start" in str(supervisor.describe()["part"]["said"])


def test_a_part_waits_until_it_may_start(tmp_path):
    with supervised(tmp_path, part(PARENT, ready=lambda: (tmp_path / "go").exists())) as supervisor:
        supervisor.step()
        assert supervisor.describe()["part"]["pid"] is None
        (tmp_path / "go").touch()
        supervisor.step()
        assert supervisor.describe()["part"]["pid"] is not None


def test_the_memory_of_a_board_is_the_sum_over_its_processes(tmp_path):
    hold = "data = bytearray(b'x') * 30_000_000; print('ready', flush=True); import time; time.sleep(60)"
    with supervised(tmp_path, part(hold)) as supervisor:
        supervisor.step()
        until(lambda: b"ready" in supervisor.log_of("part").read_bytes())
        pids = [found.pid for found in processes_of(tmp_path)]
        assert 30e6 < pss_bytes(pids) < 60e6
        assert pss_bytes([*pids, 2**22 + 1]) >= 30e6  # a process that is gone counts nothing


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        ("Exit Code: 305\n[code: 2004] Failed to activate SuperNode.", "lets go of it within 60 s"),
        ("ERROR: SSL/TLS handshake error detected.", "cut"),
        ("Client error '401 Unauthorized' for url", "signature"),
        ("Client error '403 Forbidden'", "revoked"),
        ("WARNING: Connection attempt failed, retrying in 8.00 seconds", "cannot be reached"),
        ('nginx: [emerg] host not found in upstream "fleet:8443"', "cannot be reached"),
    ],
)
def test_the_end_of_a_supernode_is_said_in_plain_words(tail, words):
    end = explain_end(tail)
    assert end is not None
    assert words in end.words


def test_what_is_not_known_is_not_guessed():
    assert explain_end("something new") is None


@pytest.mark.parametrize(("ahead_s", "wrong"), [(0, False), (-290, False), (-3600, True), (30, True), (3600, True)])
def test_a_wrong_clock_is_said_with_its_error_and_what_to_do(ahead_s, wrong):
    words = explain_clock(ahead_s)
    assert (words is not None) == wrong
    assert words is None or (f"{abs(ahead_s)} s" in words and "timedatectl" in words)


def test_a_refused_signature_leads_to_the_clock_and_an_absent_server_does_not_hide_it():
    behind = with_clock(lambda: -3600.0)("401 Unauthorized")
    assert behind is not None
    assert "3600 s behind" in behind.words

    def away() -> float:
        raise ServerAwayError("no")

    end = with_clock(away)("401 Unauthorized")
    assert end is not None
    assert "signature" in end.words
