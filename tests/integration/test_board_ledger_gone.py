"""A board whose ledger was removed, put back or copied trains nothing, says so, and can be set right by its owner."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import toy
from typer.testing import CliRunner, Result

from fl_client.board.status import status_of_board
from fl_client.cli import app
from fl_client.home import open_home
from fl_client.shell.socket_trainer import SocketTrainer
from fl_client.shell.trainer_api import TrainerApi
from fl_client.trainer.daemon import open_trainer
from fl_client.trainer.in_process import InProcessTrainer
from fl_client.trainer.task import size_class
from fl_core import __version__
from fl_core.errors import BudgetSpentError, LedgerError, PolicyError
from fl_core.privacy.ledger import Ledger
from fl_core.questions import TRAIN
from fl_core.types import ClientInfo, RoundPlan, Tensors
from fl_server.plan.setup import Setup
from fl_server.plan.tasks import plan_of
from support.boards import CLIENT, ENVIRONMENT, POLICY, ROOT, asked, info_of, make_home, trainer_process

Ask = Callable[..., tuple[RoundPlan, Tensors]]
ROUNDS = 3


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """A private plan of some round of some run, and the model that it starts from."""
    config = toy.config(tmp_path / "runs", privacy={"epsilon": 2.0}, clients={"local_steps": 2}, run={"rounds": ROUNDS})
    setup = Setup.of(config, toy.data())
    info = ClientInfo(CLIENT, size_class(48), __version__, False)

    def make(round: int = 1, run: str = "one", accepted: str | None = None) -> tuple[RoundPlan, Tensors]:
        plan = plan_of(setup, info, round, round - 1, accepted=accepted)
        return replace(plan, run_id=run, task_id=f"{run}-{round}"), setup.initial_state().model

    return make


def reach(home: Path) -> SocketTrainer:
    return SocketTrainer(home / "run" / "trainer.sock")


@contextmanager
def at_work(home: Path) -> Iterator[TrainerApi]:
    """The trainer of a home in this process, until the board is switched off."""
    opened = open_trainer(open_home(home))
    try:
        trainer = InProcessTrainer(opened.trainer)
        info_of(trainer)
        yield trainer
    finally:
        opened.ledger.close()


def command(*words: object) -> Result:
    """``fl-client`` with these words."""
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def start(home: Path) -> subprocess.CompletedProcess[str]:
    """The trainer of a home, which is expected to end by itself."""
    line = [sys.executable, "-m", "fl_client.trainer", "--home", str(home)]
    return subprocess.run(line, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, timeout=120)


def remove(home: Path) -> None:
    for part in home.glob("ledger.sqlite*"):
        part.unlink()


def spent(home: Path) -> float:
    ledger = Ledger(home / "ledger.sqlite")
    found = ledger.spent(CLIENT, POLICY.delta)
    ledger.close()
    return found


@pytest.mark.slow
def test_a_ledger_that_is_removed_while_the_board_is_off_is_missed_and_its_spending_comes_back(tmp_path, ask):
    home = make_home(tmp_path / "board")
    with trainer_process(home):
        info_of(reach(home))
        assert asked(reach(home), TRAIN, *ask())
    before = spent(home)
    remove(home)
    looked = command("ledger", "--home", home)
    ended = start(home)
    for code, said in ((ended.returncode, ended.stderr), (looked.exit_code, looked.stderr)):
        assert code == 5
        (line,) = said.strip().splitlines()
        for told in (str(home / "ledger.sqlite"), CLIENT, "expected", f"epsilon {before:.2f}", "got no file"):
            assert told in line
        assert "fl-client replace-ledger" in line
    assert not (home / "ledger.sqlite").exists()
    done = command("replace-ledger", "--home", home)
    assert done.exit_code == 0, done.stderr
    assert f"begins with epsilon {before:.2f} spent" in done.stdout
    assert "lost and begun again" in command("ledger", "--home", home).stdout
    with trainer_process(home):
        assert reach(home).status()["privacy"]["epsilon"] == pytest.approx(before)
        assert asked(reach(home), TRAIN, *ask(round=2))
    assert spent(home) > before
    again = command("replace-ledger", "--home", home)
    assert (again.exit_code, "nothing was changed" in again.stderr) == (2, True)


def test_one_that_is_removed_while_the_board_is_at_work_ends_its_tasks_and_tells_no_path(tmp_path, ask):
    home = make_home(tmp_path / "board")
    with at_work(home) as trainer:
        assert asked(trainer, TRAIN, *ask())
        remove(home)
        with pytest.raises(
            LedgerError, match=r"ledger\.sqlite: expected the file that was opened, got no file"
        ) as told:
            asked(trainer, TRAIN, *ask(round=2))
    assert str(tmp_path) not in str(told.value)


def test_a_board_that_was_put_back_whole_is_found_by_what_the_server_holds(tmp_path, ask):
    """Ledger and head are both a day old, so nothing on the board can know; the server's next plan does."""
    home = make_home(tmp_path / "board")
    with at_work(home) as trainer:
        asked(trainer, TRAIN, *ask())
    shutil.copytree(home, tmp_path / "backup")
    with at_work(home) as trainer:
        asked(trainer, TRAIN, *ask(round=2, accepted="one-1"))
    shutil.rmtree(home)
    shutil.copytree(tmp_path / "backup", home)
    with at_work(home) as trainer:
        with pytest.raises(LedgerError, match="task one-2, whose answer a server holds") as told:
            asked(trainer, TRAIN, *ask(round=3, accepted="one-2"))
        assert str(tmp_path) not in str(told.value)
        with pytest.raises(LedgerError, match="task one-2"):  # another run knows nothing of it, and the board does
            asked(trainer, TRAIN, *ask(run="two"))
    with pytest.raises(LedgerError, match="task one-2"), at_work(home):
        pass
    found = json.loads(command("replace-ledger", "--home", home, "--json").stdout)
    assert found["unknown"] == [CLIENT]
    assert found["epsilon"][CLIENT] >= POLICY.epsilon_cap
    assert "holds at twice its delta" in command("ledger", "--home", home).stdout
    with at_work(home) as trainer:
        with pytest.raises(BudgetSpentError, match="epsilon_cap of the device's policy"):
            asked(trainer, TRAIN, *ask(run="two"))
        replace(POLICY, epsilon_cap=20.0).save(home / "policy.json")
        assert asked(trainer, TRAIN, *ask(run="two"))


def test_a_second_run_spends_its_own_epsilon_and_the_owner_sees_both_caps(tmp_path, ask, caplog):
    home = make_home(tmp_path / "board")
    with at_work(home) as trainer, caplog.at_level("INFO"):
        for run in ("one", "two"):
            accepted = None
            for round in range(1, ROUNDS + 1):
                plan, model = ask(round=round, run=run, accepted=accepted)
                assert asked(trainer, TRAIN, plan, model)
                accepted = plan.task_id
        with pytest.raises(BudgetSpentError, match=r"in this run .* over its cap of 2 "):
            asked(trainer, TRAIN, *ask(round=9, run="two"))
    found = json.loads(command("ledger", "--home", home, "--json").stdout)
    assert found["run"]["epsilon"] <= found["run"]["cap"] == 2.0 < found["epsilon"] < found["cap"] == 8.0
    assert caplog.text.count("asks for epsilon 2 of this data in all; policy.json allows 8 over all runs") == 2
    assert f"{found['epsilon']:.2f}" not in caplog.text  # private figures are in no log
    words = command("ledger", "--home", home).stdout
    assert f"epsilon {found['epsilon']:.2f} of at most 8" in words
    assert f"the last run (two): epsilon {found['run']['epsilon']:.2f} of at most 2" in words


def test_a_policy_holds_from_the_moment_it_is_written_and_a_broken_one_stops_the_device(tmp_path, ask):
    home = make_home(tmp_path / "board")
    opened = open_trainer(open_home(home))
    trainer = InProcessTrainer(opened.trainer)
    info_of(trainer)
    assert asked(trainer, TRAIN, *ask())
    replace(POLICY, max_sample_rate=0.01).save(home / "policy.json")
    with pytest.raises(PolicyError, match=r"sample_rate: this device allows at most 0\.01"):
        asked(trainer, TRAIN, *ask(round=2))
    replace(POLICY, epsilon_cap=3.0).save(home / "policy.json")
    assert opened.spending().cap == 3.0
    for text in ("{", '{"epsilon_cap": 8.0}', "epsilon_cap: [\n  1", ""):
        (home / "policy.json").write_text(text)
        with pytest.raises(PolicyError, match=r"policy policy\.json: ") as told:
            asked(trainer, TRAIN, *ask(round=2))
        assert str(home) not in str(told.value)
        assert "\n" not in str(told.value)
        assert opened.spending().cap == POLICY.epsilon_cap  # whoever looks at the board is answered all the same
        assert any("trains nothing: policy" in line for line in status_of_board(home)["troubles"])
    (home / "policy.json").unlink()
    with pytest.raises(PolicyError, match=r"policy policy\.json: cannot be read"):
        asked(trainer, TRAIN, *ask(round=2))
    POLICY.save(home / "policy.json")
    assert asked(trainer, TRAIN, *ask(round=2))
    opened.ledger.close()
