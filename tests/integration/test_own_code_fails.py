"""A user's own code that fails in a run: one line with its place, wherever it runs, and no traceback of ours."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import toy
from typer.testing import CliRunner

from fl_core.config import to_yaml
from fl_core.runlog import read_events
from fl_server.watch.failure import Failure
from simulation.cli import app

OWN = """
from dataclasses import dataclass, replace

import toy
from fl_core.data.federation import ClientData
from fl_core.tasks.classification import Classification
from fl_core.tree import add_scaled
from strategies.base import Strategy


class Loss(Classification):
    def example_loss(self, output_BX, target_B):
        if len(target_B) == 16:  # a batch of the config, which no check before the run has
            raise ValueError("no loss\\nfor so many")  # a loss
        return super().example_loss(output_BX, target_B)


class Score(Classification):
    def example_score(self, output_BX, target_B):
        return {}["a score"] if len(target_B) > 8 else super().example_score(output_BX, target_B)


@dataclass(frozen=True)
class Step(Strategy):
    def server_step(self, state, means):
        return means["a step"]


@dataclass(frozen=True)
class Leaves(Strategy):
    def server_step(self, state, means):
        raise SystemExit(0)


@dataclass(frozen=True)
class Twice(Strategy):
    def server_step(self, state, means):
        step = float("nan") if state.version else 1.0
        return replace(state, model=add_scaled(state.model, means["delta"], step))


def half():
    whole = toy.data()
    return whole.clients["nobody"]  # a half
"""
PLACES = {line.rpartition("# ")[2]: number for number, line in enumerate(OWN.splitlines(), 1) if "# a " in line}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "users_own.py").write_text(OWN)
    shutil.copy(toy.__file__, tmp_path)  # worker processes look for it there
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("users_own", None)


def fl_sim(folder: Path, command: str, *options: str, **sections: Any) -> Any:
    config = toy.config(folder, **{"run": {"rounds": 1}, "export": {"formats": []}, **sections})
    (folder / "run.yaml").write_text(to_yaml(config))
    return CliRunner().invoke(app, [command, "run.yaml", *options], env={"COLUMNS": "200", "TERM": "dumb"})


def errors_of(result: Any) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith(("error", "Traceback"))]


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_loss_that_fails_on_a_client_is_a_reason_with_its_place(folder: Path, workers: str) -> None:
    fl_sim(folder, "run", "--workers", workers, task={"factory": "users_own:Loss"})
    reasons = {event["reason"] for event in read_events(folder / "toy") if event["kind"] == "client_failed"}
    place = f"users_own.py, line {PLACES['a loss']}, in example_loss"
    assert reasons == {f"ValueError: no loss for so many ({place})"}


@pytest.mark.parametrize(
    ("section", "factory", "says"),
    [
        ("task", "Score", "round 0: example_score: KeyError: 'a score' (users_own.py, line 20, in example_score)"),
        ("strategy", "Step", "round 1: KeyError: 'a step' (users_own.py, line 26, in server_step)"),
        ("strategy", "Leaves", "round 1: SystemExit: 0 (users_own.py, line 32, in server_step)"),
    ],
)
def test_code_that_fails_on_the_server_ends_the_run_in_one_line(
    folder: Path, section: str, factory: str, says: str
) -> None:
    result = fl_sim(folder, "run", **{section: {"factory": f"users_own:{factory}"}})
    assert result.exit_code == 2, result.stderr
    line = f"{section}.factory users_own:{factory}: {says}"
    assert errors_of(result) == [f"error: {line}"]
    failure = Failure.at(folder / "toy").read()
    assert failure is not None
    assert failure["problems"] == [line]


def test_a_run_goes_on_from_the_last_good_round_of_a_strategy_that_failed(folder: Path) -> None:
    result = fl_sim(folder, "run", run={"rounds": 3}, strategy={"factory": "users_own:Twice"})
    (line,) = errors_of(result)
    assert line.startswith("error: strategy.factory users_own:Twice: round 2: server_step: expected finite values")
    own = folder / "users_own.py"
    own.write_text(own.read_text().replace('float("nan")', "1.0"))
    sys.modules.pop("users_own")
    result = CliRunner().invoke(app, ["resume", "toy"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == 0, result.stderr
    accepted = [event["round"] for event in read_events(folder / "toy") if event["kind"] == "round_finished"]
    assert accepted == [1, 2, 3]


def test_a_factory_that_fails_is_named_with_its_field_and_hides_no_other_problem(folder: Path) -> None:
    result = fl_sim(folder, "validate", data={"factory": "users_own:half"}, strategy={"name": "fedavgg"})
    assert result.exit_code == 2
    strategy, data = errors_of(result)
    assert strategy.startswith("error: strategy.name: expected one of")
    place = f"users_own.py, line {PLACES['a half']}, in half"
    assert data == f"error: data.factory users_own:half: KeyError: 'nobody' ({place})"


def test_a_factory_of_a_wrong_form_is_one_error(folder: Path) -> None:
    result = fl_sim(folder, "validate", data={"factory": "users_own.half"})
    assert errors_of(result) == ["error: data.factory: expected \"package.module:callable\", got 'users_own.half'"]
