"""The command fl-client as its user meets it: help with examples, JSON for scripts, one line for each error."""

from __future__ import annotations

import json
import os
import pwd
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fl_client.cli import app
from fl_core.privacy.ledger import Ledger
from fl_core.privacy.policy import DevicePolicy
from support.boards import CLIENT, make_home
from support.ledgers import TERMS


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.mark.parametrize("words", ["enrol", "run", "probe", "ledger", "replace-ledger", "status", "service install"])
def test_every_command_shows_an_example(words):
    result = call(*words.split(), "--help")
    assert result.exit_code == 0
    assert f"fl-client {words}" in result.stdout.split("Example:")[1]


def test_probe_gives_a_script_what_the_board_is():
    found = json.loads(call("probe", "--json").stdout)
    assert found["memory_bytes"] > 0
    assert {"model", "accelerators", "runtimes", "power", "thermal", "problems"} <= found.keys()


def spend(home: Path, tasks: int, unfinished: int = 0, simulated: bool = False) -> None:
    ledger = Ledger(home / "ledger.sqlite", simulated=simulated)
    policy = DevicePolicy.load(home / "policy.json")
    ledger.enrol(CLIENT, 64)
    for number in range(tasks + unfinished):
        ledger.reserve(CLIENT, f"task {number}", TERMS, policy)
        if number < tasks:
            ledger.settle(CLIENT, f"task {number}", b"reply", None)
    ledger.close()


def test_ledger_says_what_was_spent_and_what_it_means(tmp_path):
    home = make_home(tmp_path)
    spend(home, tasks=2, unfinished=1)
    words = call("ledger", "--home", home).stdout
    figures = json.loads(call("ledger", "--home", home, "--json").stdout)
    assert f"epsilon {figures['epsilon']:.2f} of at most 8" in words
    assert "1 tasks were begun and not finished" in words
    assert (figures["begun"], figures["finished"], figures["cap"]) == (3, 2, 8.0)


def test_looking_at_a_device_that_never_trained_makes_no_ledger(tmp_path):
    home = make_home(tmp_path)
    assert "Nothing learned" in call("ledger", "--home", home).stdout
    assert not (home / "ledger.sqlite").exists()


@pytest.mark.parametrize("tasks", [0, 2])
def test_a_device_with_named_seeds_gives_no_epsilon_and_says_that_it_is_not_private(tmp_path, tasks):
    home = make_home(tmp_path, simulated=True)
    spend(home, tasks, simulated=True)
    words = call("ledger", "--home", home).stdout
    figures = json.loads(call("ledger", "--home", home, "--json").stdout)
    assert "Not private: named seeds" in words
    assert "epsilon 0" not in words
    assert "odds" not in words
    assert (figures["epsilon"], figures["simulated"], figures["begun"]) == (None, True, tasks)


def test_status_of_a_board_that_is_down_is_an_answer_and_no_error(tmp_path):
    found = json.loads(call("status", "--home", make_home(tmp_path), "--json").stdout)
    assert (found["trainer"], found["processes"], found["pss_bytes"]) == (None, [], 0)


def test_a_board_without_a_policy_does_not_run(tmp_path):
    result = call("run", "--home", make_home(tmp_path, policy=None))
    assert result.exit_code == 5
    assert "it would train nothing" in result.stderr
    assert "Traceback" not in result.stderr


def test_services_are_installed_with_a_list_of_files_for_a_script(tmp_path):
    found = json.loads(call("service", "install", "--system", tmp_path, "--json").stdout)
    assert found["started"] is False
    assert str(tmp_path / "etc/systemd/system/stonecrop-node.service") in found["written"]
    assert all(Path(path).is_file() for path in found["written"])


def test_the_folder_of_a_device_that_enrols_is_its_owners_alone(tmp_path):
    home, before = tmp_path / "home", os.umask(0o022)
    try:
        call("enrol", "https://127.0.0.1:1", "no token", "--home", home)
    finally:
        os.umask(before)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_a_board_that_is_not_enrolled_does_not_run(tmp_path):
    result = call("run", "--home", make_home(tmp_path))
    assert result.exit_code == 10
    assert "fl-client enrol" in result.stderr


def test_services_are_written_below_a_folder_without_being_started(tmp_path):
    result = call("service", "install", "--system", tmp_path)
    assert result.exit_code == 0
    paths = [Path(line) for line in result.stdout.splitlines()]
    assert len(paths) == 5
    assert all(path.is_file() and path.is_relative_to(tmp_path) for path in paths)
    assert call("service", "install", "--system", tmp_path, "--start").exit_code == 2


@pytest.mark.parametrize("words", ["run", "status", "ledger", "enrol https://fleet.example TOKEN"])
def test_a_user_without_a_home_folder_is_told_what_to_set(monkeypatch, words):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("STONECROP_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    result = call(*words.split())
    assert result.exit_code == 2
    assert "--home or STONECROP_HOME" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", ["run", "enrol https://fleet.example TOKEN"])
def test_a_home_that_cannot_be_written_is_told_with_what_to_set(tmp_path, monkeypatch, words):
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    result = call(*words.split(), "--home", tmp_path)
    assert result.exit_code == 2
    assert f"{tmp_path}: this user cannot write" in result.stderr
    assert "--home or STONECROP_HOME" in result.stderr


def test_a_home_below_a_file_is_told_with_what_to_set(tmp_path):
    (tmp_path / "file").touch()
    result = call("enrol", "https://fleet.example", "TOKEN", "--home", tmp_path / "file" / "home")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "cannot be made (Not a directory)" in result.stderr


def test_looking_for_a_home_that_is_not_there_makes_none(tmp_path):
    assert call("run", "--home", tmp_path / "home").exit_code == 2
    assert not (tmp_path / "home").exists()


def test_a_port_is_a_number_that_a_port_can_be(tmp_path):
    assert call("run", "--home", make_home(tmp_path), "--metrics-port", 70000).exit_code == 2
    result = call("run", "--home", tmp_path, "--metrics-port", 9120)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert (
        "expected all different, got --forwarder-port 9120 --supernode-port 9121 --metrics-port 9120" in result.stderr
    )
