"""The systemd units: systemd accepts them, each user reaches what it must and no more, nothing is overwritten."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from fl_client.board.services import SECRET, UNITS, Installation, install, units
from fl_client.board.supervise import Ports, trainer_process
from fl_client.home import DeviceData, DeviceHome, DeviceSettings
from fl_client.trainer.stopping import STEP_S, TASK_S, UNIT_STOP_S
from fl_core.errors import FINAL_CODES, ConfigError, ServerAwayError
from fl_core.process.structured_log import FORMAT_VARIABLE, LogFormat
from support.boards import ROOT


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_accepts_the_units(tmp_path):
    install(Installation(), tmp_path)
    paths = [str(tmp_path / "etc/systemd/system" / name) for name in UNITS]
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *paths], capture_output=True, text=True, timeout=60, check=False
    )
    ours = [line for line in result.stderr.splitlines() if "stonecrop" in line]
    assert (result.returncode, ours) == (0, [])


def fields(text: str, name: str) -> list[str]:
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{name}=")]


def test_what_a_server_sends_runs_as_a_user_that_sees_neither_data_nor_keys():
    trainer, node, shell = (units(Installation())[name] for name in UNITS)
    users = [fields(text, "User") for text in (trainer, node, shell)]
    assert users == [["stonecrop"], ["stonecrop-node"], ["stonecrop-app"]]
    assert fields(shell, "InaccessiblePaths")[0].split()[:2] == ["-/var/lib/stonecrop", "-/var/lib/stonecrop-node"]
    assert fields(trainer, "StateDirectoryMode") == fields(node, "StateDirectoryMode") == ["0700"]
    assert fields(trainer, "Group") == fields(shell, "Group")  # the socket is group-readable: the shell's only way in
    assert fields(shell, "IPAddressDeny") == ["any"]
    for text in (trainer, node, shell):
        assert fields(text, "NoNewPrivileges") == ["yes"]
        assert fields(text, "ProtectSystem") == ["strict"]
        assert fields(text, "CapabilityBoundingSet") == [""]


def test_every_unit_logs_as_the_installation_says():
    for text in units(Installation(log_format=LogFormat.JSON)).values():
        assert f"{FORMAT_VARIABLE}=json" in " ".join(fields(text, "Environment")).split()


def test_what_no_further_start_mends_is_not_started_again_and_what_may_pass_is():
    trainer, node, shell = (units(Installation())[name] for name in UNITS)
    for text in (trainer, node):
        assert {int(code) for code in fields(text, "RestartPreventExitStatus")[0].split()} == FINAL_CODES
    assert fields(shell, "RestartPreventExitStatus") == []  # its codes are Flower's
    assert ServerAwayError.exit_code not in FINAL_CODES


def test_trainer_supervisor_systemd_and_docs_agree_on_how_long_a_stop_may_take():
    device = DeviceSettings("board-7", DeviceData("smartwatch"))
    supervised = trainer_process(DeviceHome(Path("/nowhere"), device), Ports(), "python")
    assert TASK_S + STEP_S < supervised.stop_s < UNIT_STOP_S
    trainer, node, _ = (units(Installation())[name] for name in UNITS)
    assert fields(trainer, "TimeoutStopSec") == fields(node, "TimeoutStopSec") == [f"{UNIT_STOP_S:g}"]
    docs = (ROOT / "docs" / "boards.md").read_text()
    assert f"may finish for {TASK_S:g} s" in docs
    assert f"{STEP_S:g} s more for the step" in docs
    assert f"`TimeoutStopSec={UNIT_STOP_S:g}`" in docs


def test_a_second_installation_keeps_the_secret_that_nobody_else_can_read(tmp_path):
    install(Installation(), tmp_path)
    secret = tmp_path / SECRET.relative_to("/")
    before = secret.read_bytes()
    install(Installation(), tmp_path)
    assert secret.read_bytes() == before
    assert len(before) == 64
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_a_path_that_systemd_would_read_otherwise_is_refused():
    with pytest.raises(ConfigError, match="absolute path without blanks"):
        Installation(home=Path("/var/lib/my board"))
