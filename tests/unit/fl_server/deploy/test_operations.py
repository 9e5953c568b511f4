"""What an operator orders: one run at a time, nothing deleted that goes on, nothing written that cannot run."""

from __future__ import annotations

import os
import threading
from dataclasses import replace

import pytest
import toy

from fl_core.config import Config, load_config
from fl_core.errors import ConfigError, NoUpdateError, RunFolderError
from fl_core.files import folder_lock
from fl_core.run_folder import run_lock
from fl_server.deploy import keep_up, operations
from fl_server.deploy.home import ServerHome
from fl_server.deploy.operations import RunStoppedError, wait_for_run, want_run
from fl_server.report.build import build_report
from fl_server.report.summary import write_summary
from fl_server.watch.failure import Failure
from support.disks import files_of_at_most
from support.synthetic_run import write_run


def test_a_second_server_is_told_that_the_first_is_up(home, monkeypatch):
    monkeypatch.setattr(keep_up, "LOCK_WAIT_S", 0.0)
    first = folder_lock(home.folder, RunFolderError("nobody has it"))
    with first, pytest.raises(RunFolderError, match="the server of this folder is up") as refused:
        keep_up.keep_up(home, threading.Event(), print)
    assert str(home.folder) in str(refused.value)


def test_a_run_under_way_is_not_replaced_and_goes_on(home):
    with run_lock(home.run_dir("toy")), pytest.raises(RunFolderError, match="is at work on it"):
        want_run(home, toy.config(home.folder), overwrite=True)
    assert home.wanted() == "toy"


def test_of_two_orders_at_the_same_time_one_is_taken_and_the_other_told(home, monkeypatch):
    """The second one looks while the first is still checking its config, and would find nothing in its way."""
    home.want(None)
    checked = operations.checked_setup

    def while_another_is_quicker(config: Config) -> None:
        checked(config)
        monkeypatch.setattr(operations, "checked_setup", checked)
        want_run(home, replace(config, run=replace(config.run, rounds=5)), overwrite=False)

    monkeypatch.setattr(operations, "checked_setup", while_another_is_quicker)
    with pytest.raises(RunFolderError, match="holds a run already"):
        want_run(home, toy.config(home.folder, run={"name": "new"}), overwrite=False)
    assert home.wanted() == "new"
    assert load_config(home.run_dir("new") / "config.yaml").run.rounds == 5


def test_an_order_that_a_full_disk_refuses_leaves_no_half_of_a_run(home):
    home.want(None)
    with files_of_at_most(100), pytest.raises(OSError, match="File too large"):
        want_run(home, toy.config(home.folder, run={"name": "new"}), overwrite=False)
    assert home.wanted() is None
    want_run(home, toy.config(home.folder, run={"name": "new"}), overwrite=False)
    assert home.wanted() == "new"


def test_an_order_that_is_taken_back_while_it_is_read_is_none(home):
    path, order, done = home.folder / "wanted.json", home.folder / "order", threading.Event()
    path.rename(order)

    def change() -> None:
        while not done.is_set():
            os.link(order, path)
            path.unlink()

    commands = threading.Thread(target=change)
    commands.start()
    try:
        assert {home.wanted() for _ in range(5000)} <= {"toy", None}
    finally:
        done.set()
        commands.join()


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


def test_a_run_name_cannot_leave_the_folder(home):
    with pytest.raises(RunFolderError, match="expected one of toy"):
        home.run_dir("../runs/toy")


def test_settings_that_cannot_be_are_refused_by_name(tmp_path):
    (tmp_path / "server.yaml").write_text("gateway_port: 8100\nsuperlink_port: 8100\n")
    with pytest.raises(ConfigError, match="all different"):
        ServerHome.open(tmp_path)
    with pytest.raises(RunFolderError, match="fl-server init"):
        ServerHome.open(tmp_path / "nowhere")


def test_a_wrong_config_is_refused_with_all_that_is_wrong_and_replaces_nothing(home):
    before = (home.run_dir("toy") / "config.yaml").read_bytes()
    config = toy.config(home.folder, model={"factory": "toy:nothing"}, strategy={"name": "fedavgg"})
    with pytest.raises(ConfigError) as refused:
        want_run(home, config, overwrite=True)
    for wrong in ("nothing", "fedavgg"):
        assert any(wrong in problem for problem in refused.value.problems)
    assert (home.run_dir("toy") / "config.yaml").read_bytes() == before


def test_who_waits_for_a_run_that_failed_for_good_gets_its_reasons_and_its_code(home):
    failure = Failure.at(home.run_dir("toy"))
    failure.write(NoUpdateError(["run toy: no update was accepted", "2 of 2 clients refused: a, b: no"]))
    with pytest.raises(RunStoppedError) as stopped:
        wait_for_run(home, home.run_dir("toy"), print, print)
    assert stopped.value.problems == ("run toy: no update was accepted", "2 of 2 clients refused: a, b: no")
    assert stopped.value.exit_code == NoUpdateError.exit_code


def test_a_run_that_failed_for_good_is_not_in_the_way_of_another(home):
    Failure.at(home.run_dir("toy")).write(NoUpdateError("none"))
    want_run(home, toy.config(home.folder, run={"name": "other"}), overwrite=False)
    assert home.wanted() == "other"


def test_a_run_right_after_one_that_has_just_ended_is_taken(home, tmp_path):
    ended = write_run(home.runs / "ended")
    write_summary(ended, 1.0)
    build_report(ended)
    home.want("ended")  # as until the server looks again; here none is up
    assert want_run(home, toy.config(tmp_path, run={"name": "next"}), overwrite=False) == home.runs / "next"
    assert home.wanted() == "next"
