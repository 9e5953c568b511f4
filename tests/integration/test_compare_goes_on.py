"""What stops one run of a comparison, or the whole of it: the others go on, and Ctrl-C begins nothing more."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import toy
from typer.testing import CliRunner

from fl_core.config import to_yaml
from simulation.cli import app

OWN = """
import sys
from dataclasses import dataclass

from strategies.fedavg import FedAvg


@dataclass(frozen=True)
class Boom(FedAvg):
    def server_step(self, state, means):
        raise RuntimeError("the reactor is\\n too hot")


@dataclass(frozen=True)
class Nothing(FedAvg):
    def server_step(self, state, means):
        pass


@dataclass(frozen=True)
class Leaves(FedAvg):
    def server_step(self, state, means):
        sys.exit(3)


@dataclass(frozen=True)
class Dies(FedAvg):
    def server_step(self, state, means):
        import os

        os._exit(3)
"""
MAIN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background would be deaf to it
from simulation.cli import main
main()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "users_mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def config_file(folder: Path, rounds: int) -> str:
    path = folder / "toy.yaml"
    path.write_text(to_yaml(toy.config(folder, run={"rounds": rounds}, export={"formats": []})))
    return str(path)


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_whatever_a_strategy_raises_costs_its_own_runs_alone(folder: Path, workers: str) -> None:
    strategies = "users_mine:Boom,users_mine:Nothing,users_mine:Leaves,fedavg"
    words = ["compare", config_file(folder, 1), "--strategies", strategies, "--out", "out", "--workers", workers]
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 2, result.stderr
    assert [row["strategy"] for row in json.loads(result.stdout)["rows"]] == ["fedavg"]
    told = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(told) == 3
    where, place = "strategy.factory users_mine:Boom: round 1", "(users_mine.py, line 11, in server_step)"
    assert f"error: users-mine-Boom-seed7: {where}: RuntimeError: the reactor is too hot {place}" in told
    assert f"users-mine-Boom-seed7 failed: {where}:" in result.stderr  # and no picture of :Boom:
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_a_process_that_dies_is_a_failure_in_one_line(folder: Path) -> None:
    words = ["compare", config_file(folder, 1), "--strategies", "users_mine:Dies,fedavg", "--out", "out"]
    result = CliRunner().invoke(app, [*words, "--workers", "2"])
    assert result.exit_code == 6, result.stderr
    assert "users-mine-Dies-seed7 failed: the process of this run" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("interrupt", [os.kill, os.killpg], ids=["alone", "from a terminal"])
def test_ctrl_c_ends_a_comparison_and_begins_no_other_run(folder: Path, interrupt: Callable[[int, int], None]) -> None:
    words = ["compare", config_file(folder, 5000), "--strategies", "fedavg,fedprox", "--seeds", "2"]
    command = [sys.executable, "-c", MAIN, *words, "--out", "out", "--workers", "2"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment) as it:
        while it.poll() is None and len(list((folder / "out").glob("*/events.jsonl"))) < 2:
            time.sleep(0.1)
        begun = time.monotonic()
        interrupt(it.pid, signal.SIGINT)
        time.sleep(0.2)
        interrupt(it.pid, signal.SIGINT)
        said = it.communicate(timeout=60)[1]
    assert time.monotonic() - begun < 20
    assert it.returncode == 130
    assert said == "interrupted; the same command goes on where it stopped\n"
    assert len(list((folder / "out").glob("*/config.yaml"))) == 2
