"""A board that runs as services: what systemd knows is shown, and where it knows nothing, nothing fails."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fl_client.board import systemd as units
from fl_client.board.status import in_words, status_of_board
from fl_client.board.systemd import Unit, installed_units, processes_of_unit
from fl_client.cli import app
from fl_client.standing import Standing, keep_standing
from fl_core.process.table import write_end, write_table
from support.boards import CLIENT, make_home

SAID = """\
Id=stonecrop-trainer.service
LoadState=loaded
ActiveState=active
SubState=running
NRestarts=2
ControlGroup=/system.slice/stonecrop-trainer.service

Id=stonecrop-node.service
LoadState=loaded
ActiveState=activating
SubState=auto-restart
NRestarts=7
ControlGroup=

Id=stonecrop-app.service
LoadState=not-found
ActiveState=inactive
SubState=dead
NRestarts=0
ControlGroup=
"""


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    """A ``systemctl`` that says what it is told to."""

    def says(text: str, code: int = 0) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        program = folder / "systemctl"
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\nexit {code}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", os.pathsep.join((str(folder), os.environ["PATH"])))

    return says


@pytest.fixture(params=[".", "systemd"])
def cgroups(tmp_path, monkeypatch, request):
    """Control groups in which the trainer's service holds this very process, one level down."""
    root = tmp_path / "cgroup"
    inner = root / request.param / "system.slice" / "stonecrop-trainer.service" / "inner"
    inner.mkdir(parents=True)
    (inner.parent / "cgroup.procs").write_text("")
    (inner / "cgroup.procs").write_text(f"{os.getpid()}\n999999999\n")
    monkeypatch.setattr(units, "CGROUPS", root)
    return root


def test_installed_services_are_read_and_others_left_out(systemd):
    systemd(SAID)
    trainer = Unit("stonecrop-trainer.service", "active (running)", 2, "/system.slice/stonecrop-trainer.service")
    assert installed_units() == [trainer, Unit("stonecrop-node.service", "activating (auto-restart)", 7, "")]


@pytest.mark.parametrize(("text", "code"), [("System has not been booted with systemd\n", 1), ("\n\nnonsense\n", 0)])
def test_a_system_without_systemd_has_no_services(systemd, text, code):
    systemd(text, code)
    assert installed_units() == []


def test_no_systemctl_is_no_error(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert installed_units() == []


def test_processes_of_a_service_are_those_of_its_control_group_that_run(cgroups):
    unit = Unit("stonecrop-trainer.service", "active (running)", 0, "/system.slice/stonecrop-trainer.service")
    assert [(found.pid, found.spec_name) for found in processes_of_unit(unit)] == [(os.getpid(), "stonecrop-trainer")]
    assert processes_of_unit(Unit("stonecrop-node.service", "inactive (dead)", 0, "")) == []


def test_status_shows_services_beside_a_home_and_without_one(systemd, cgroups, tmp_path):
    systemd(SAID)
    home = make_home(tmp_path / "home")
    for folder, client_id in ((home, CLIENT), (tmp_path / "of-another-user", None)):
        found = status_of_board(folder, tmp_path / "no.sock")
        assert found["client_id"] == client_id
        assert [service["restarts"] for service in found["services"]] == [2, 7]
        assert [process["pid"] for process in found["processes"]] == [os.getpid()]
        assert found["pss_bytes"] > 0
        words = "\n".join(in_words(found))
        assert "trainer: does not answer" in words
        assert "stonecrop-node.service: activating (auto-restart), 7 restarts" in words


def test_status_says_why_something_does_not_run_and_that_another_board_has_the_identity(systemd, tmp_path):
    systemd("", code=1)
    home = make_home(tmp_path / "home")
    assert status_of_board(home)["troubles"] == []
    run = home / "run"
    write_end(run, "trainer: data.client: expected one of a, b, got 'c'", 3)
    keep_standing(home, Standing("board-7: waits for approval", "two devices use the identity board-7"))
    away = {"pid": None, "ready": False, "restarts": 4, "said": "the server cannot be reached"}
    write_table(run, {"supernode": away})
    *_, ended, part, twice = found = status_of_board(home)["troubles"]
    assert found[0] == "supernode: does not run now: the server cannot be reached"
    assert "with exit code 3: trainer: data.client: expected one of a, b, got 'c'" in ended
    assert (part, twice) == ("takes no part: board-7: waits for approval", "two devices use the identity board-7")
    assert set(found) <= set(in_words(status_of_board(home)))


def test_a_folder_that_is_no_home_is_an_error_where_no_service_is_installed(systemd, tmp_path: Path):
    systemd("", code=1)
    result = CliRunner().invoke(app, ["status", "--home", str(tmp_path), "--json"])
    assert result.exit_code == 2
    systemd(SAID)
    assert json.loads(CliRunner().invoke(app, ["status", "--home", str(tmp_path), "--json"]).stdout)["services"]
