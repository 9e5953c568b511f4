"""The supervisor against real processes: what dies comes back, orphans go, nothing outlives it, nothing gives up."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

from fl_core.process.bounded_log import LOG_LIMIT_BYTES, BoundedLog
from fl_core.process.processes import is_alive, processes_of, pss_bytes
from fl_core.process.supervise import ExitReason, ProcessSpec, Supervisor
from fl_core.process.table import SUPERVISOR, health_by_process, running_processes
from support.supervised import ENVIRONMENT, PARENT, SLEEP, part, pid_of, supervised, until

HOLDS_PORT = """
import os, socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
server.set_inheritable(True)
if os.fork() == 0:
    os.execve(sys.executable, [sys.executable, "-S", "-c", "import time; time.sleep(60)"], {})
import time; time.sleep(60)
"""


def test_a_part_that_is_killed_comes_back_alone_and_its_orphan_is_gone(tmp_path):
    with supervised(tmp_path, part(PARENT), part(SLEEP, "other")) as supervisor:
        until(lambda: len(processes_of(tmp_path)) == 3, supervisor.step)
        other = pid_of(supervisor, "other")
        before = {found.pid for found in processes_of(tmp_path)} - {other}
        os.kill(pid_of(supervisor), signal.SIGKILL)
        until(lambda: supervisor.describe()["part"]["restarts"] == 1, supervisor.step)
        assert not supervisor.ready
        until(lambda: len(processes_of(tmp_path)) == 3 and supervisor.ready, supervisor.step)
        assert not before & {found.pid for found in processes_of(tmp_path)}
        assert pid_of(supervisor, "other") == other
        assert running_processes(tmp_path / "run") == {
            os.getpid(): SUPERVISOR, pid_of(supervisor): "part", other: "other",
        }  # fmt: skip
        assert supervisor.describe()["part"]["said"] == "was ended by SIGKILL"
        assert health_by_process(tmp_path / "run") == {"part": (True, 1), "other": (True, 0)}
        os.kill(other, signal.SIGKILL)
        until(lambda: not is_alive(other))
        supervisor.step()
        assert health_by_process(tmp_path / "run")["other"] == (False, 1)
    assert running_processes(tmp_path / "run") == {}


def test_a_worker_that_hides_its_environment_does_not_keep_the_port_of_its_killed_master(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    with supervised(tmp_path, part(HOLDS_PORT, "part", str(port), ready=listens)) as supervisor:
        until(lambda: supervisor.ready and len(found_with_leader(supervisor)) == 2, supervisor.step)
        before = found_with_leader(supervisor)
        os.kill(pid_of(supervisor), signal.SIGKILL)
        until(lambda: supervisor.describe()["part"]["restarts"] == 1, supervisor.step)
        until(lambda: supervisor.ready, supervisor.step)
        assert not any(map(is_alive, before))
    assert not listens()


def found_with_leader(supervisor: Supervisor) -> set[int]:
    """The part's processes, with those of its group that write over their environment."""
    return {found.pid for found in processes_of(supervisor.home, {pid_of(supervisor): "part"})}


def test_children_in_sessions_of_their_own_are_ended_too(tmp_path):
    with supervised(tmp_path, part(PARENT)) as supervisor:
        until(lambda: len(processes_of(tmp_path)) == 2, supervisor.step)
        below = [found.pid for found in processes_of(tmp_path)]
        supervisor.stop()
        assert not any(map(is_alive, below))


def test_a_killed_supervisor_takes_its_parts_with_it_and_the_next_one_ends_the_rest(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from fl_core.process.supervise import ProcessSpec, Supervisor\n"
        f"command = [sys.executable, '-S', '-c', {PARENT!r}]; home = Path({str(tmp_path)!r})\n"
        f"s = Supervisor(home, home / 'run', [ProcessSpec('part', lambda: command)], {ENVIRONMENT!r})\n"
        "while True:\n    s.step(); time.sleep(0.05)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env=ENVIRONMENT)
    try:
        until(lambda: len(processes_of(tmp_path)) == 2)
    finally:
        process.kill()
        process.wait()
    until(lambda: [found.name.split()[:1] for found in processes_of(tmp_path)] == [["sleep"]])
    following = Supervisor(tmp_path, tmp_path / "run", [part(PARENT)], ENVIRONMENT)
    assert following.end_leftovers() == 1
    assert processes_of(tmp_path) == []
    assert following.end_leftovers() == 0


def test_a_part_that_never_runs_is_tried_for_ever_with_waits_that_stop_growing_and_said_once(tmp_path, caplog):
    broken = part("raise SystemExit('no network')", explain=lambda tail: ExitReason(tail.strip().splitlines()[-1]))
    with supervised(tmp_path, broken) as supervisor:
        until(lambda: int(str(supervisor.describe()["part"]["restarts"])) >= 6, supervisor.step)
        assert supervisor.describe()["part"]["said"] == "no network"
    assert len([record for record in caplog.records if "no network" in record.message]) == 1


def test_what_dies_at_once_is_started_less_and_less_often(tmp_path):
    ran = tmp_path / "ran"
    with supervised(tmp_path, part(f"open({str(ran)!r}, 'a').write('x')")) as supervisor:
        ends = time.monotonic() + 1.2
        while time.monotonic() < ends:
            supervisor.step()
            time.sleep(0.01)
    assert 2 <= len(ran.read_text()) <= 5  # after 0, 0.1, 0.3, 0.7 and 1.1 s, or later


def test_a_part_that_does_not_become_ready_in_time_is_started_anew(tmp_path):
    sick = part(SLEEP, ready=lambda: False, ready_s=0.2)
    with supervised(tmp_path, sick) as supervisor:
        until(lambda: int(str(supervisor.describe()["part"]["restarts"])) >= 2, supervisor.step)
        assert supervisor.describe()["part"]["said"] == "was not ready after 0.2 s"


def test_a_part_that_loses_the_helper_it_cannot_work_without_is_ended_politely_and_starts_anew(tmp_path):
    said = tmp_path / "said"
    code = f"""
import signal, subprocess, sys, threading, time
signal.signal(signal.SIGTERM, lambda *_: (open({str(said)!r}, "w").write("politely"), sys.exit()))
starter = threading.Thread(target=lambda: subprocess.Popen(["sleep", "60"], start_new_session=True))
starter.start()
time.sleep(60)
"""
    with supervised(tmp_path, part(code, helper="sleep")) as supervisor:
        until(lambda: len(processes_of(tmp_path)) == 2, supervisor.step)
        supervisor.step()
        first = pid_of(supervisor)
        (helper,) = (found.pid for found in processes_of(tmp_path) if found.pid != first)
        os.kill(helper, signal.SIGKILL)
        until(lambda: supervisor.describe()["part"]["restarts"] == 1, supervisor.step)
        assert supervisor.describe()["part"]["said"] == "lost its sleep"
        assert said.read_text() == "politely"
        until(lambda: len(processes_of(tmp_path)) == 2, supervisor.step)
        assert not is_alive(first)


def test_a_program_that_is_missing_is_tried_again(tmp_path):
    with supervised(tmp_path, ProcessSpec("part", lambda: ["/nowhere/program"])) as supervisor:
        supervisor.step()
        assert "cannot start" in str(supervisor.describe()["part"]["said"])


def test_a_part_waits_until_it_may_start(tmp_path):
    with supervised(tmp_path, part(SLEEP, may_start=lambda: (tmp_path / "go").exists())) as supervisor:
        supervisor.step()
        assert supervisor.describe()["part"]["pid"] is None
        assert not supervisor.ready
        (tmp_path / "go").touch()
        supervisor.step()
        assert supervisor.describe()["part"]["pid"] is not None


def test_a_part_is_restarted_on_demand_without_counting_as_dead(tmp_path):
    with supervised(tmp_path, part(PARENT)) as supervisor:
        until(lambda: len(processes_of(tmp_path)) == 2, supervisor.step)
        before = {found.pid for found in processes_of(tmp_path)}
        supervisor.restart("part")
        assert not any(map(is_alive, before))
        until(lambda: supervisor.ready, supervisor.step)
        assert supervisor.describe()["part"]["restarts"] == 0


def test_the_memory_of_a_home_is_the_sum_over_its_processes(tmp_path):
    hold = "data = bytearray(b'x') * 30_000_000; print('ready', flush=True); import time; time.sleep(60)"
    with supervised(tmp_path, part(hold)) as supervisor:
        supervisor.step()
        until(lambda: b"ready" in (supervisor.folder / "part.log").read_bytes())
        pids = [found.pid for found in processes_of(tmp_path)]
        assert 30e6 < pss_bytes(pids) < 60e6
        assert pss_bytes([*pids, 2**22 + 1]) >= 30e6  # a process that is gone counts nothing


def test_the_log_of_a_part_that_never_ends_stays_small_and_keeps_the_newest_lines(tmp_path):
    talks = """
import time
for number in range(60_000):
    print(f"{number:99d}", flush=number % 100 == 0)
    if number % 1000 == 0: time.sleep(0.02)
print("the last line", flush=True)
time.sleep(60)
"""
    log = tmp_path / "run" / "part.log"
    sizes = []

    def step() -> None:
        supervisor.step()
        sizes.append(sum(path.stat().st_size for path in log.parent.glob("part.log*")))

    with supervised(tmp_path, part(talks)) as supervisor:
        step()
        until(lambda: b"the last line" in log.read_bytes(), step, limit_s=60.0)
        assert supervisor.describe()["part"]["restarts"] == 0
        assert max(sizes) < 2.5 * LOG_LIMIT_BYTES  # of 6 MB in all
        numbers = [int(line) for path in (log.with_name("part.log.1"), log) for line in path.read_text().split("\n")
                   if line.strip().isdigit()]  # fmt: skip
        assert numbers[-1] == 59_999
        assert numbers == sorted(numbers)


def test_a_log_that_cannot_be_copied_makes_room(tmp_path):
    log = BoundedLog(tmp_path / "part.log")
    log.before.mkdir()  # nothing can be written over it
    with log.open() as file:
        file.write(b"x" * (LOG_LIMIT_BYTES + 1))
        file.flush()
        log.bound()
        file.write(b"a word")
    assert log.tail() == "a word"
