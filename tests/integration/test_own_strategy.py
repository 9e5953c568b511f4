"""A strategy of somebody else: begun by the command, judged by the plugin, offered by a distribution, and run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simulation.cli import app

ROOT = Path(__file__).resolve().parents[2]
RUN = """
run: {name: own, rounds: 2, seed: 1, out: runs}
data: {factory: "simulation.conformance.data:blobs"}
model: {factory: "simulation.conformance.data:net"}
export: {formats: []}
"""
WRONG = """
from dataclasses import dataclass, replace
from fl_core.tree import add_scaled
from strategies.base import Strategy

@dataclass(frozen=True)
class LastOne(Strategy):
    # Takes whichever update came last.
    def accumulate(self, state, update):
        return replace(super().accumulate(state, update), slots={"last": dict(update.parts["delta"].tensors)})

    def server_step(self, state, means):
        return replace(state, model=add_scaled(state.model, state.slots["last"], 1.0), slots={})
"""


def python(folder: Path, *args: str, path: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*path, ROOT))), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *args]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=500)


def judge(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """pytest finds the plugin by itself, for stonecrop is installed."""
    return python(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args)


def fl_sim(folder: Path, *args: str, path: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
    return python(folder, "-m", "simulation.cli", *args, path=path)


def test_a_new_strategy_is_short_passes_its_own_test_and_runs(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["new", "strategy", "calm_average", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.stderr
    module, test = (Path(line) for line in result.stdout.splitlines())
    assert len(module.read_text().splitlines()) <= 40
    tested = python(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", test.name)
    assert tested.returncode == 0, tested.stdout
    (tmp_path / "run.yaml").write_text(RUN + 'strategy: {factory: "calm_average:CalmAverage", args: {decay: 0.8}}\n')
    ran = fl_sim(tmp_path, "run", "run.yaml")
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "runs" / "own" / "summary.json").is_file()


@pytest.mark.parametrize("name", ["calm-average", "Calm", "class", "../x"])
def test_a_name_that_is_no_module_is_refused(name: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["new", "strategy", name, "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_there_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("mine")
    result = CliRunner().invoke(app, ["new", "strategy", "mine", "--out", str(tmp_path)])
    assert result.exit_code == 8
    assert [path.name for path in tmp_path.iterdir()] == ["test_mine.py"]
    assert (tmp_path / "test_mine.py").read_text() == "mine"


def test_the_plugin_says_what_is_wrong_with_a_strategy(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG)
    (tmp_path / "test_other.py").write_text("def test_other():\n    assert False\n")
    verdict = judge(tmp_path, "--stonecrop-strategy", "wrong:LastOne", "-k", "not learns")
    assert verdict.returncode == 1
    assert "FAILED" in verdict.stdout
    assert "test_any_order_of_replies_gives_the_same_bits" in verdict.stdout
    assert "test_other" not in verdict.stdout


def test_the_plugin_takes_arguments_and_flowers_classes(tmp_path: Path) -> None:
    args = ("--stonecrop-strategy", "flwr.serverapp.strategy:FedAvgM", "--stonecrop-args", '{"server_momentum": 0.5}')
    verdict = judge(tmp_path, *args)
    assert verdict.returncode == 0, verdict.stdout
    assert "passed" in verdict.stdout


def test_without_its_option_the_plugin_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text("def test_other():\n    assert True\n")
    verdict = judge(tmp_path)
    assert "1 passed" in verdict.stdout


def test_an_installed_distribution_offers_its_strategy_by_name(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    (source / "quiet_one.py").write_text(
        "from strategies.fedavg import FedAvg\n\n\ndef quiet(step=0.5):\n    return FedAvg(server_learning_rate=step)\n"
    )
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "quiet-one"\nversion = "1.0"\n'
        '[project.entry-points."stonecrop.strategies"]\nquiet = "quiet_one:quiet"\n'
        '[tool.setuptools]\npy-modules = ["quiet_one"]\n'
    )
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target")
    installed = python(tmp_path, *pip, str(site), str(source))
    assert installed.returncode == 0, installed.stderr
    (tmp_path / "run.yaml").write_text(RUN + "strategy: {name: quiet, args: {step: 0.25}}\n")
    ran = fl_sim(tmp_path, "run", "run.yaml", path=(site,))
    assert ran.returncode == 0, ran.stderr
    without = fl_sim(tmp_path, "validate", "run.yaml")
    assert without.returncode == 2
    assert "quiet" in without.stderr
