"""The director brings about what is wanted: starts, notices deaths, goes on, gives up what would fail again, stops."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import toy

from fl_core.config import to_yaml
from fl_core.errors import ConfigError, RoundError, RunFolderError
from fl_core.runlog import run_lock, write_atomic
from fl_server.deploy import director as module
from fl_server.deploy.director import Director, is_locked
from fl_server.deploy.home import Failure, Home, Settings
from fl_server.deploy.orders import want_again, want_run
from support.synthetic_run import write_run


@dataclass
class OwnControl:
    """A SuperLink that takes every run and believes what its test says."""

    submitted: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    believes: str = "running"

    def submit(self, run: str) -> str:
        self.submitted.append(run)
        return str(len(self.submitted))

    def status(self, run_id: str) -> str:
        return self.believes

    def stop(self, run_id: str) -> None:
        self.stopped.append(run_id)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path, Settings())
    home.save()
    write_atomic(home.runs / "toy" / "config.yaml", to_yaml(toy.config(tmp_path)).encode())
    home.want("toy")
    return home


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.0)
    monkeypatch.setattr(module, "ASK_EVERY_S", 0.0)


def director(home: Home, control: OwnControl) -> Director:
    return Director(home, control, _wait_s=0.0)  # type: ignore[arg-type]


def test_a_wanted_run_is_submitted_once_while_it_may_still_come(home):
    control = OwnControl()
    each = director(home, control)
    for _ in range(5):
        each.step()
    assert control.submitted == ["toy"]


def test_a_run_whose_process_died_is_stopped_and_submitted_again(home):
    control = OwnControl()
    each = director(home, control)
    each.step()
    with run_lock(home.run_dir("toy")):
        each.step()
        assert control.submitted == ["toy"]
    each.step()
    assert (control.submitted, control.stopped) == (["toy", "toy"], ["1"])


def test_a_run_that_flower_gave_up_is_submitted_again(home):
    control = OwnControl()
    each = director(home, control)
    each.step()
    control.believes = "finished:failed"
    each.step()
    assert control.submitted == ["toy", "toy"]


def test_a_new_server_takes_over_what_the_one_before_it_had_submitted(home):
    control = OwnControl()
    director(home, control).step()
    director(home, control).step()
    assert (control.submitted, control.stopped) == (["toy", "toy"], ["1"])


@pytest.mark.parametrize(("error", "again"), [(RoundError("no clients"), True), (ConfigError("wrong"), False)])
def test_only_what_may_go_better_is_tried_again(home, error, again):
    control = OwnControl()
    each = director(home, control)
    each.step()
    control.believes = "finished:failed"
    Failure.at(home.run_dir("toy")).write(type(error).__name__, str(error), error.exit_code)
    each.step()
    assert len(control.submitted) == 1 + again
    assert each.trouble == str(error)
    want_again(home, "toy")
    each.step()
    assert len(control.submitted) == 2 + again


def test_a_done_run_is_wanted_no_more(home):
    control = OwnControl()
    write_run(home.runs / "toy")
    (home.runs / "toy" / "report.html").write_text("")
    each = director(home, control)
    each.step()
    assert home.wanted() is None
    assert control.submitted == []


def test_a_run_that_is_not_wanted_any_more_is_stopped(home):
    control = OwnControl()
    each = director(home, control)
    each.step()
    home.want(None)
    each.step()
    each.step()
    assert control.stopped == ["1"]


def test_a_second_run_is_refused_while_one_is_under_way(home):
    with pytest.raises(RunFolderError, match="run toy: is under way"):
        want_run(home, toy.config(home.folder, run={"name": "other"}), overwrite=False)
    with pytest.raises(RunFolderError, match="holds a run already"):
        want_run(home, toy.config(home.folder), overwrite=False)


def test_a_wrong_config_leaves_nothing_behind_and_deletes_nothing(home):
    home.want(None)
    config = toy.config(home.folder, model={"factory": "toy:nothing"})
    with pytest.raises(ConfigError):
        want_run(home, config, overwrite=True)
    assert home.wanted() is None
    assert (home.runs / "toy" / "config.yaml").is_file()


def test_asking_for_the_lock_does_not_take_it(home):
    run_dir = home.run_dir("toy")
    assert not is_locked(run_dir)
    with run_lock(run_dir):
        assert is_locked(run_dir)


def test_a_run_name_cannot_leave_the_folder(home):
    with pytest.raises(RunFolderError, match="expected one of toy"):
        home.run_dir("../runs/toy")


def test_settings_that_cannot_be_are_refused_by_name(tmp_path):
    (tmp_path / "server.yaml").write_text("gateway_port: 8100\nsuperlink_port: 8100\n")
    with pytest.raises(ConfigError, match="all different"):
        Home.open(tmp_path)
    with pytest.raises(RunFolderError, match="fl-server init"):
        Home.open(tmp_path / "nowhere")


def test_a_wrong_config_is_refused_with_all_that_is_wrong_and_replaces_nothing(home):
    before = (home.run_dir("toy") / "config.yaml").read_bytes()
    config = toy.config(home.folder, model={"factory": "toy:nothing"}, strategy={"name": "fedavgg"})
    with pytest.raises(ConfigError) as refused:
        want_run(home, config, overwrite=True)
    for wrong in ("nothing", "fedavgg"):
        assert any(wrong in problem for problem in refused.value.problems)
    assert (home.run_dir("toy") / "config.yaml").read_bytes() == before
