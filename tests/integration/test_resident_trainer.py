"""The trainer as a real process behind its socket: same bytes, one spend, quick errors, nothing lost by a kill."""

from __future__ import annotations

import json
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import toy

from fl_client.home import open_home
from fl_client.shell.socket_trainer import SocketTrainer
from fl_client.trainer.daemon import held, open_trainer
from fl_client.trainer.in_process import InProcessTrainer, LocalTrainer
from fl_client.trainer.task import Trainer
from fl_core.errors import ConfigError, LedgerError, PolicyError, TrainerError, WireError
from fl_core.privacy.ledger import Ledger
from fl_core.process.structured_log import FORMAT_VARIABLE
from fl_core.questions import EVALUATE, RANGES, TRAIN
from fl_core.rng import seeded_noise
from fl_core.types import RoundPlan, Tensors
from simulation.engines.clients import simulated_policy
from support import boards
from support.boards import CLIENT, asked, info_of, make_home, toy_task, trainer_process

Ask = Callable[..., tuple[RoundPlan, Tensors]]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """A plan of the toy federation with DP, and the model that it starts from."""

    def make(round: int = 1, steps: int = 2, **changes: object) -> tuple[RoundPlan, Tensors]:
        return toy_task(tmp_path_factory.mktemp("runs"), round, steps, **changes)

    return make


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of a board with secret noise, whose trainer runs."""
    home = make_home(tmp_path_factory.mktemp("board"))
    with trainer_process(home):
        yield home


def reach(home: Path) -> SocketTrainer:
    return SocketTrainer(home / "run" / "trainer.sock", patience_s=20)


def spends(home: Path) -> int:
    ledger = Ledger(home / "ledger.sqlite", simulated="simulated: true" in (home / "device.yaml").read_text())
    try:
        return len(ledger.events(CLIENT))
    finally:
        ledger.close()


def test_a_task_over_the_socket_gives_the_bytes_of_a_trainer_in_this_process(tmp_path, ask):
    config = toy.config(tmp_path, privacy={"epsilon": 8.0})
    ledger = Ledger(tmp_path / "ledger.sqlite", simulated=True)
    policy, named = simulated_policy(config), {"simulated": True, "tells_epsilon": False}
    own = Trainer(toy.data().clients, ledger, lambda: policy, seeded_noise, tmp_path, **named)
    here = InProcessTrainer(LocalTrainer(own, CLIENT))
    home = make_home(tmp_path / "b", simulated=True)
    with trainer_process(home):
        there = reach(home)
        assert info_of(there) == info_of(here)
        assert info_of(there).simulated
        plan, model = ask(steps=3)
        assert asked(there, TRAIN, plan, model) == asked(here, TRAIN, plan, model)
        assert there.status()["privacy"]["simulated"] is True


def test_a_home_in_a_folder_deeper_than_a_socket_may_be_is_reached_all_the_same(tmp_path):
    home = make_home(tmp_path / ("deep" * 40))
    with trainer_process(home):
        assert info_of(reach(home)).client_id == CLIENT


def test_two_deliveries_of_a_running_task_spend_once_and_get_the_same_bytes(running, ask):
    trainer = reach(running)
    info_of(trainer)
    before = spends(running)
    plan, model = ask(round=2, steps=40)
    with ThreadPoolExecutor(4) as pool:
        results = {future.result() for future in [pool.submit(asked, trainer, TRAIN, plan, model) for _ in range(4)]}
    assert len(results) == 1
    assert asked(trainer, TRAIN, plan, model) in results  # once it is over, too
    assert spends(running) == before + 1


def test_a_factory_that_the_device_does_not_allow_is_refused_before_it_is_imported(running, ask):
    plan, model = ask()
    made = running / "imported"
    (running / "evil.py").write_text(f"open({str(made)!r}, 'w')\n\ndef net(**args): ...\n")
    for section, value in (("model", {"factory": "evil:net", "name": None, "args": {}}),
                           ("strategy", {"name": "fedavg", "factory": None, "args": {"inner": "evil:net"}}),
                           ("task", {"name": None, "factory": "evil:net"})):  # fmt: skip
        changed = replace(plan, training={**plan.training, section: value}, task_id=section)
        with pytest.raises(PolicyError, match="'evil:net' is not among the factories"):
            asked(reach(running), TRAIN, changed, model)
        with pytest.raises(PolicyError, match="'evil:net'"):
            asked(reach(running), EVALUATE, changed, model)
        with pytest.raises(PolicyError, match="'evil:net'"):
            asked(reach(running), RANGES, changed, model)
    assert not made.exists()


def test_a_plan_of_another_version_is_refused_by_name(running, ask):
    plan, model = ask(code_version="9.9.9")
    with pytest.raises(WireError, match=r"code 9\.9\.9"):
        asked(reach(running), TRAIN, plan, model)
    plan, model = ask(schema_version=99)
    with pytest.raises(WireError, match="got schema 99"):
        asked(reach(running), TRAIN, plan, model)


def test_an_unexpected_error_keeps_its_text_on_the_device(running, ask):
    plan, model = ask(task_id="broken")
    secret = "quoted by the error"
    with pytest.raises(TrainerError, match="failed with ValidationError") as caught:
        asked(reach(running), TRAIN, replace(plan, training={**plan.training, "clients": secret}), model)
    assert secret not in str(caught.value)
    assert secret in (running / "trainer.log").read_text()
    assert info_of(reach(running)).client_id == CLIENT  # and the trainer lives on


def test_every_line_of_a_trainer_that_logs_json_is_an_object_with_the_round_and_client_it_is_of(
    tmp_path, ask, monkeypatch
):
    monkeypatch.setitem(boards.ENVIRONMENT, FORMAT_VARIABLE, "json")
    home = make_home(tmp_path / "b")
    plan, model = ask(round=2)
    with trainer_process(home):
        trainer = reach(home)
        info_of(trainer)
        assert asked(trainer, TRAIN, plan, model)
        with pytest.raises(PolicyError):
            asked(
                trainer,
                TRAIN,
                replace(plan, round=3, task_id="code", training={"strategy": {"factory": "evil:net"}}),
                model,
            )
        with pytest.raises(TrainerError):
            asked(trainer, TRAIN, replace(plan, round=4, task_id="broken", training={"clients": "secret"}), model)
    lines = [json.loads(line) for line in (home / "trainer.log").read_text().splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    told = [(line["level"], line["run"], line["round"], line["client_id"]) for line in lines if "round" in line]
    wanted = (("INFO", 2), ("INFO", 2), ("WARNING", 3), ("ERROR", 4))  # both caps before a run's first task
    assert told == [(level, plan.run, n, CLIENT) for level, n in wanted]


def test_a_trainer_that_cannot_start_says_so_in_json_where_it_logs_json(tmp_path, monkeypatch):
    monkeypatch.setitem(boards.ENVIRONMENT, FORMAT_VARIABLE, "json")
    with pytest.raises(TrainerError), trainer_process(make_home(tmp_path / "b", policy=None)):
        pass
    (line,) = map(json.loads, (tmp_path / "b" / "trainer.log").read_text().splitlines())
    assert line["level"] == "ERROR"
    assert "policy.json" in line["message"]


def test_the_socket_is_open_to_user_and_group_alone(running):
    assert stat.S_IMODE((running / "run" / "trainer.sock").stat().st_mode) == 0o660


def test_what_a_trainer_writes_its_user_alone_reads_but_the_way_to_its_socket_is_its_groups(tmp_path):
    home, socket = make_home(tmp_path / "board"), tmp_path / "made by it" / "trainer.sock"
    before = os.umask(0o022)
    try:
        with trainer_process(home, "--socket", str(socket), socket=socket):
            written = [home / "ledger.sqlite", home / "run", home / "run" / "counts.json"]
            assert [path.name for path in written if path.stat().st_mode & 0o077] == []
            assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o750
    finally:
        os.umask(before)


def test_a_second_trainer_in_the_same_home_does_not_start(running):
    with pytest.raises(ConfigError, match="another trainer is at work"), held(open_home(running)):
        pass


def test_a_trainer_that_is_killed_ends_the_call_at_once_and_its_spend_stays(tmp_path, ask):
    home = make_home(tmp_path / "b")
    plan, model = ask(steps=5000)
    with trainer_process(home) as process:
        info_of(reach(home))
        failed: list[float] = []

        def train() -> None:
            with pytest.raises(TrainerError, match="died"):
                asked(reach(home), TRAIN, plan, model)
            failed.append(time.monotonic())

        shell = threading.Thread(target=train)
        shell.start()
        ends = time.monotonic() + 30
        while spends(home) == 0 and time.monotonic() < ends:
            time.sleep(0.02)
        killed = time.monotonic()
        os.kill(process.pid, signal.SIGKILL)
        shell.join(10)
    assert failed, "the shell was not told"
    assert failed[0] - killed < 2.0
    assert spends(home) == 1  # what was begun counts, though nothing came of it
    with trainer_process(home):
        again, model = ask(round=2)
        assert asked(reach(home), TRAIN, again, model)
        assert reach(home).status()["starts"] == 2
    assert spends(home) == 2


def test_a_device_without_a_policy_trains_nothing(tmp_path):
    with pytest.raises(PolicyError, match=r"policy\.json"):
        open_trainer(open_home(make_home(tmp_path / "b", policy=None)))


def test_seeds_and_secret_noise_never_share_a_ledger(tmp_path):
    home = make_home(tmp_path / "b")
    opened = open_trainer(open_home(home))
    assert not info_of(InProcessTrainer(opened.trainer)).simulated
    opened.ledger.close()
    with pytest.raises(LedgerError, match="simulat"):
        open_trainer(open_home(make_home(home, simulated=True)))


def test_no_trainer_is_said_in_plain_words(tmp_path):
    with pytest.raises(TrainerError, match="is it running"):
        info_of(SocketTrainer(tmp_path / "none.sock", patience_s=0.3))
