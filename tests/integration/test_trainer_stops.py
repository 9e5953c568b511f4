"""A trainer that is stopped ends its task and keeps the reply; one that cannot start ends with its reason's code."""

from __future__ import annotations

import errno
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from fl_client.board.status import status_of_board
from fl_client.home import open_home
from fl_client.shell.socket_trainer import SocketTrainer
from fl_client.trainer import __main__ as trainer_main
from fl_client.trainer.counters import TaskCounters
from fl_client.trainer.daemon import open_trainer
from fl_client.trainer.service import Service, listen
from fl_client.trainer.stopping import TASK_S
from fl_core.errors import FINAL_CODES, ConfigError, DataError, LedgerError, PolicyError, TrainerError
from fl_core.files import folder_lock, write_json
from fl_core.privacy.ledger import Ledger
from fl_core.process.processes import processes_of
from fl_core.process.table import end_of
from fl_core.questions import TRAIN
from fl_core.records import encode_plan
from fl_core.tensorfile import encode_tensors
from support import boards
from support.boards import CLIENT, asked, info_of, make_home, toy_task, trainer_process
from support.fleet import eventually
from support.gateway import free_port, needs_nginx
from support.supervised import SLEEP, part, supervised, until

PORTS = ("--forwarder-port", "--supernode-port", "--metrics-port")


def reach(home: Path) -> SocketTrainer:
    return SocketTrainer(home / "run" / "trainer.sock", patience_s=20)


def spends(home: Path) -> int:
    ledger = Ledger(home / "ledger.sqlite")
    try:
        return len(ledger.events(CLIENT))
    finally:
        ledger.close()


SHELL = """
import sys
from pathlib import Path
from fl_client.shell.socket_trainer import SocketTrainer
from fl_core.questions import TRAIN
folder = Path(sys.argv[1])
SocketTrainer(folder / "run" / "trainer.sock").ask(TRAIN, tuple((folder / each).read_bytes() for each in sys.argv[2:]))
"""


def test_a_trainer_that_is_stopped_in_mid_task_ends_it_and_its_reply_answers_the_server_that_asks_again(tmp_path):
    home = make_home(tmp_path / "b")
    plan, model = toy_task(tmp_path / "runs", steps=400)
    (home / "plan").write_bytes(encode_plan(plan))
    (home / "model").write_bytes(encode_tensors(model))
    with trainer_process(home) as process:
        info_of(reach(home))
        shell = subprocess.Popen([sys.executable, "-c", SHELL, str(home), "plan", "model"], env=boards.ENVIRONMENT)
        eventually(lambda: spends(home) == 1, 60, "the task")
        shell.kill()  # as the SuperNode above it is gone by then
        shell.wait()
        process.terminate()
        assert process.wait(60) == 0
    said = (home / "trainer.log").read_text()
    assert f"stopping: the task that is at work may take {TASK_S:g} s more" in said
    assert f"task {plan.task_id} answered with" in said
    ledger = Ledger(home / "ledger.sqlite")
    stored = ledger.reply(CLIENT, plan.task_id)
    ledger.close()
    with trainer_process(home):
        assert asked(reach(home), TRAIN, plan, model) == stored
    assert spends(home) == 1


@pytest.mark.slow
def test_a_trainer_that_is_stopped_at_rest_ends_at_once(tmp_path):
    with trainer_process(make_home(tmp_path / "b")) as process:
        process.terminate()
        assert process.wait(30) == 0
    assert "stopping" not in (tmp_path / "b" / "trainer.log").read_text()


def test_a_task_that_takes_longer_than_a_stop_ends_between_two_steps_and_what_is_lost_is_said(tmp_path, caplog):
    opened = open_trainer(open_home(make_home(tmp_path / "b")))
    service = Service(opened.trainer, opened.spending, TaskCounters(tmp_path / "counts.json"), opened.give_up)
    server = listen(service, tmp_path / "t.sock")
    trainer = SocketTrainer(tmp_path / "t.sock")
    info_of(trainer)
    plan, model = toy_task(tmp_path / "runs", steps=100_000)
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(asked, trainer, TRAIN, plan, model)
        eventually(lambda: opened.ledger.events(CLIENT), 30, "the task")
        waiting = pool.submit(asked, trainer, TRAIN, replace(plan, task_id="next"), model)
        eventually(lambda: service.status()["open"] == 2, 30, "a task that waits")
        assert service.stop(0.2, 30)
        with pytest.raises(TrainerError, match="stopped before the task was done"):
            running.result()
        for late in (waiting, pool.submit(asked, trainer, TRAIN, plan, model)):
            with pytest.raises(TrainerError, match="takes no further task"):
                late.result()
    server.stop(None).wait()
    (said,) = (record.message for record in caplog.records if "is lost" in record.message)
    spent = opened.spending()
    assert said == (
        f"task {plan.task_id} took more than 0.2 s and is lost: what it reserved stays spent, with it epsilon "
        f"{spent.epsilon:.2f} of {spent.cap:g}"
    )
    opened.ledger.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"data": {"factory": "toy:nothing"}}, ConfigError.exit_code, "data.factory"),
        ({"policy": None}, PolicyError.exit_code, "policy.json"),
    ],
)
def test_a_trainer_that_cannot_start_ends_with_the_code_of_its_error_and_leaves_the_reason(
    tmp_path, fields, code, words
):
    home = make_home(tmp_path / "b", **fields)
    command = [sys.executable, "-m", "fl_client.trainer", "--home", str(home)]
    assert subprocess.run(command, env=boards.ENVIRONMENT, cwd=boards.ROOT, capture_output=True).returncode == code
    found = end_of(home / "run")
    assert found is not None
    assert found["exit_code"] == code
    assert words in found["reason"]


@needs_nginx
def test_fl_client_run_ends_with_the_code_and_the_reason_of_a_trainer_that_no_further_start_mends(tmp_path):
    home = make_home(tmp_path / "b", data={"factory": "toy:data", "client": "nobody"})
    record = {"client_id": CLIENT, "host": "127.0.0.1", "port": free_port(), "folder": "one"}
    write_json(home / "keys" / "identity.json", record)
    (home / "keys" / "one").mkdir()
    ports = (word for option in PORTS for word in (option, str(free_port())))
    command = [sys.executable, "-m", "fl_client.cli", "run", "--home", str(home), *ports]
    ended = subprocess.run(command, env=boards.ENVIRONMENT, cwd=boards.ROOT, capture_output=True, text=True)
    assert ended.returncode == DataError.exit_code
    reason = "trainer: data.client: expected one of client-0, client-1, client-2, client-3, got 'nobody'"
    assert ended.stderr.splitlines()[-1] == f"error: {reason}"
    assert processes_of(home) == []
    assert any(reason in line for line in status_of_board(home)["troubles"])


def test_a_second_fl_client_in_a_home_that_is_at_work_ends_nothing_and_says_so(tmp_path):
    home = make_home(tmp_path / "b")
    write_json(home / "keys" / "identity.json", {"client_id": CLIENT, "host": "h", "port": 1, "folder": "one"})
    (home / "run").mkdir()
    with folder_lock(home / "run", ConfigError("held already")), supervised(home, part(SLEEP, "trainer")) as first:
        until(lambda: first.ready, first.step)
        command = [sys.executable, "-m", "fl_client.cli", "run", "--home", str(home)]
        second = subprocess.run(command, env=boards.ENVIRONMENT, cwd=boards.ROOT, capture_output=True, text=True)
        assert second.returncode == ConfigError.exit_code
        assert second.stderr.splitlines()[-1].endswith("another fl-client is at work in this home; expected one")
        assert [found.spec_name for found in processes_of(home)] == ["trainer"]


def test_a_disk_that_is_full_is_no_reason_to_give_up(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise LedgerError("ledger: no space left") from OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(trainer_main, "run_trainer", full)
    monkeypatch.setattr(sys, "argv", ["trainer", "--home", str(make_home(tmp_path / "b"))])
    assert trainer_main.main() not in FINAL_CODES
