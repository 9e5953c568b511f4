"""The run supervisor brings about what is wanted: starts, notices deaths, goes on, gives up what fails again, stops."""

from __future__ import annotations

import errno
import shutil
import threading
from dataclasses import dataclass, field

import pytest
import toy

from fl_core.config import load_config
from fl_core.errors import ConfigError, NoUpdateError, RoundError, RunFolderError, StorageError
from fl_core.files import write_atomic
from fl_core.run_folder import run_is_locked, run_lock
from fl_server import app
from fl_server.deploy import run_supervisor as module
from fl_server.deploy.control import Control
from fl_server.deploy.home import ServerHome
from fl_server.deploy.operations import want_again, want_run
from fl_server.deploy.run_supervisor import RunSupervisor
from fl_server.watch.failure import Failure
from support.synthetic_run import write_run


@dataclass
class OwnControl:
    """A SuperLink that takes every run and believes what its test says."""

    submitted: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    believes: str = "running"
    refuses: RoundError | None = None
    """What it answers to submit and stop."""

    def submit(self, run: str) -> str:
        self._refuse()
        self.submitted.append(run)
        return str(len(self.submitted))

    def status(self, run_id: str) -> str:
        return self.believes

    def stop(self, run_id: str) -> None:
        self._refuse()
        self.stopped.append(run_id)

    def _refuse(self) -> None:
        if self.refuses is not None:
            raise self.refuses


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.0)
    monkeypatch.setattr(module, "ASK_EVERY_S", 0.0)


def run_supervisor(home: ServerHome, control: OwnControl) -> RunSupervisor:
    return RunSupervisor(home, control, _wait_s=0.0)  # type: ignore[arg-type]


def test_a_wanted_run_is_submitted_once_while_it_may_still_come(home):
    control = OwnControl()
    each = run_supervisor(home, control)
    for _ in range(5):
        each.step()
    assert control.submitted == ["toy"]


def test_a_run_whose_process_died_is_stopped_and_submitted_again(home):
    control = OwnControl()
    each = run_supervisor(home, control)
    each.step()
    with run_lock(home.run_dir("toy")):
        each.step()
        assert control.submitted == ["toy"]
    each.step()
    assert (control.submitted, control.stopped) == (["toy", "toy"], ["1"])


def test_a_run_that_flower_gave_up_is_submitted_again(home):
    control = OwnControl()
    each = run_supervisor(home, control)
    each.step()
    control.believes = "finished:failed"
    each.step()
    assert control.submitted == ["toy", "toy"]


def test_a_new_server_takes_over_what_the_one_before_it_had_submitted(home):
    control = OwnControl()
    run_supervisor(home, control).step()
    run_supervisor(home, control).step()
    assert (control.submitted, control.stopped) == (["toy", "toy"], ["1"])


@pytest.mark.parametrize(
    ("error", "again"),
    [(RoundError("no clients"), True), (ConfigError("wrong"), False), (NoUpdateError("none"), False)],
)
def test_only_what_may_go_better_is_tried_again(home, error, again):
    control = OwnControl()
    each = run_supervisor(home, control)
    each.step()
    control.believes = "finished:failed"
    Failure.at(home.run_dir("toy")).write(error)
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
    each = run_supervisor(home, control)
    each.step()
    assert home.wanted() is None
    assert control.submitted == []


def test_a_run_that_is_not_wanted_any_more_is_stopped(home):
    control = OwnControl()
    each = run_supervisor(home, control)
    each.step()
    home.want(None)
    each.step()
    each.step()
    assert control.stopped == ["1"]


@pytest.mark.parametrize("wanted", [None, "toy"])
def test_a_run_that_could_not_be_stopped_is_stopped_later_and_none_starts_beside_it(home, wanted):
    control = OwnControl()
    run_supervisor(home, control).step()
    home.want(wanted)
    control.refuses = RoundError("no answer from the SuperLink")
    each = run_supervisor(home, control)
    for _ in range(3):
        each.step()
        assert each.trouble == "no answer from the SuperLink"
    assert (control.submitted, control.stopped) == (["toy"], [])
    control.refuses = None
    each.step()
    assert control.stopped == ["1"]
    assert each.trouble is None or wanted
    assert len(control.submitted) == (1 if wanted is None else 2)


def test_a_run_that_cannot_be_submitted_is_trouble_until_it_can(home, monkeypatch):
    monkeypatch.setattr(module, "FIRST_WAIT_S", 60.0)
    control = OwnControl(refuses=RoundError("no answer from the SuperLink"))
    each = run_supervisor(home, control)
    for _ in range(3):
        each.step()
        assert each.trouble == "no answer from the SuperLink"
    control.refuses = None
    each = run_supervisor(home, control)
    each.step()
    each.step()
    assert (control.submitted, each.trouble) == (["toy"], None)


def test_a_full_disk_ends_nothing_and_leaves_no_run_that_nobody_knows_of(home, monkeypatch):
    control = OwnControl()
    each = run_supervisor(home, control)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(module, "write_json", full)
        each.step()
        assert "No space left" in str(each.trouble)
        assert control.stopped == ["1"]
    each.step()
    with run_lock(home.run_dir("toy")):
        each.step()
    assert each.trouble is None
    assert control.submitted == ["toy", "toy"]


@pytest.mark.parametrize(("believed", "ends"), [("running", False), ("finished:stopped", True), (None, True)])
def test_a_run_counts_as_stopped_where_flower_says_that_it_is_not_under_way(home, monkeypatch, believed, ends):
    class Api:
        def stop_run(self, run_id: str) -> None:
            raise RoundError("flower: StopRun: refused")

        def newest_runs(self) -> dict[str, str]:
            return {} if believed is None else {"7": believed}

    monkeypatch.setattr(Control, "api", Api())
    if ends:
        Control(home).stop("7")
    else:
        with pytest.raises(RoundError, match="StopRun: refused"):
            Control(home).stop("7")


def test_a_second_server_app_that_waits_in_vain_does_not_fail_the_run_of_the_first(home, monkeypatch):
    monkeypatch.setattr(app, "TAKEOVER_S", 0.0)
    run_dir = home.run_dir("toy")
    with run_lock(run_dir), pytest.raises(RunFolderError, match="is at work on it"):
        app.run_deployed(None, run_dir)  # type: ignore[arg-type]
    assert Failure.at(run_dir).read() is None
    control = OwnControl()
    run_supervisor(home, control).step()
    assert control.submitted == ["toy"]


def test_a_full_disk_ends_a_server_app_with_its_reason_and_the_run_is_tried_again(home, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(run_dir / "events.jsonl"))

    run_dir = home.run_dir("toy")
    monkeypatch.setattr(app, "load_config", full)
    with pytest.raises(StorageError, match="make room there"):
        app.run_deployed(None, run_dir)  # type: ignore[arg-type]
    failure = Failure.at(run_dir)
    assert "No space left" in (failure.read() or {})["reason"]
    assert not failure.is_final
    control = OwnControl()
    each = run_supervisor(home, control)
    each.step()
    assert control.submitted == ["toy"]


def test_a_server_app_whose_run_was_deleted_meanwhile_writes_nothing_in_its_place(home, monkeypatch):
    run_dir = home.run_dir("toy")

    def delete(*_: object) -> None:
        shutil.rmtree(run_dir)
        raise ConfigError("gone")

    monkeypatch.setattr(app, "load_config", delete)
    with pytest.raises(ConfigError):
        app.run_deployed(None, run_dir)  # type: ignore[arg-type]
    assert not run_dir.exists()
    with pytest.raises(RunFolderError, match="it was deleted before its turn came"):
        app.run_deployed(None, run_dir)  # type: ignore[arg-type]
    assert not run_dir.exists()


def test_a_failed_run_is_replaced_whole_while_a_server_looks_at_it(home):
    run_dir = home.run_dir("toy")
    for number in range(200):
        write_atomic(run_dir / "rounds" / f"{number:04d}" / "model", b"model")
    Failure.at(run_dir).write(ConfigError("wrong"))
    each, done, wrong = run_supervisor(home, OwnControl()), threading.Event(), list[Exception]()

    def look() -> None:
        while not done.is_set():
            try:
                each.step()
                run_is_locked(run_dir)
            except Exception as error:
                wrong.append(error)

    server = threading.Thread(target=look)
    server.start()
    try:
        want_run(home, toy.config(home.folder, run={"rounds": 7}), overwrite=True)
    finally:
        done.set()
        server.join()
    assert wrong == []
    assert home.wanted() == "toy"
    assert load_config(run_dir / "config.yaml").run.rounds == 7
    assert {path.name for path in run_dir.iterdir()} == {"config.yaml"}
    assert {path.name for path in home.runs.iterdir()} == {"toy", ".toy.lock", ".lock"}


def test_asking_for_the_lock_does_not_take_it(home):
    run_dir = home.run_dir("toy")
    assert not run_is_locked(run_dir)
    assert [path.name for path in run_dir.iterdir()] == ["config.yaml"]
    assert not run_is_locked(run_dir / "gone")
    with run_lock(run_dir):
        assert run_is_locked(run_dir)
