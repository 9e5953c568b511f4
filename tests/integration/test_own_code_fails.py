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
from simulation.cli import app

OWN = """
from dataclasses import dataclass

import toy
from fl_core.data.federation import ClientData
from fl_core.tasks.classification import Classification
from strategies.base import Strategy


class Loss(Classification):
    def example_loss(self, output_BX, target_B):
        if len(target_B) > 8:  # more than a check before the run has
            raise ValueError("no loss\\nfor so many")  # a loss
        return super().example_loss(output_BX, target_B)


class Score(Classification):
    def example_score(self, output_BX, target_B):
        return {}["a score"] if len(target_B) > 8 else super().example_score(output_BX, target_B)


@dataclass(frozen=True)
class Step(Strategy):
    def server_step(self, state, means):
        return means["a step"]


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
    config = toy.config(folder, run={"rounds": 1}, export={"formats": []}, **sections)
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
    ("sections", "says"),
    [
        ({"task": {"factory": "users_own:Score"}}, "KeyError: 'a score' (users_own.py, line 19, in example_score)"),
        ({"strategy": {"factory": "users_own:Step"}}, "KeyError: 'a step' (users_own.py, line 25, in server_step)"),
    ],
)
def test_code_that_fails_on_the_server_ends_the_run_in_one_line(
    folder: Path, sections: dict[str, Any], says: str
) -> None:
    result = fl_sim(folder, "run", **sections)
    assert result.exit_code == 1, result.stderr
    assert errors_of(result) == [f"error: {says}"]


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
