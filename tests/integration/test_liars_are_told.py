"""Whoever sees a figure of an attacked simulation sees that clients lied: before it, in its events, and after it."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from pathlib import Path

import pytest
import toy
from rich.console import Console
from typer.testing import CliRunner

from fl_core.config import to_yaml
from fl_core.files import read_json
from fl_core.runlog import read_events
from fl_server.report.tables import print_closing
from simulation.cli import app
from simulation.preflight import preflight
from simulation.run import run

SAID = "2 of 4 clients lie (sign_flip): client-0, client-1"
ATTACK: Mapping[str, object] = {"attack": {"name": "sign_flip", "clients": 2, "args": {"strength": 2.0}}}


def shown(run_dir: Path) -> str:
    """The closing table and the lines below it."""
    text = StringIO()
    print_closing(Console(file=text, width=160), [read_json(run_dir / "summary.json") or {}])
    return text.getvalue()


def test_an_attacked_run_says_so_everywhere(tmp_path: Path):
    run_dir = run(toy.config(tmp_path, simulation=ATTACK, run={"rounds": 1}))
    told = {"name": "sign_flip", "clients": ["client-0", "client-1"], "args": {"strength": 2.0}}
    assert next(read_events(run_dir))["attack"] == told
    summary = read_json(run_dir / "summary.json") or {}
    assert summary["attack"] == told
    assert [finding["topic"] for finding in summary["findings"]][:1] == ["attack"]
    table, page = shown(run_dir), (run_dir / "report.html").read_text()
    assert SAID in table
    assert "clients that lie" in table
    assert SAID in page
    assert "<strong>clients that lie: 2 of 4 (sign_flip)</strong>" in page


def test_validate_says_so_before_anything_runs(tmp_path: Path):
    path = tmp_path / "attacked.yaml"
    path.write_text(to_yaml(toy.config(tmp_path, simulation=ATTACK)))
    result = CliRunner().invoke(app, ["validate", str(path)])
    assert result.exit_code == 0, result.stderr
    assert f"attack: {SAID}" in result.stderr


def test_an_honest_run_speaks_of_nobody(tmp_path: Path):
    run_dir = run(toy.config(tmp_path, run={"rounds": 1}))
    assert next(read_events(run_dir))["attack"] is None
    assert "that lie" not in shown(run_dir) + (run_dir / "report.html").read_text()


@pytest.mark.parametrize(
    ("strategy", "clients", "words"),
    [
        ({"name": "trimmed_mean"}, 4, "TrimmedMean withstands as many liars as it can, 1 among a round's 4 updates, "
         "which makes it the median"),
        ({"name": "krum"}, 4, "Krum withstands as many liars as it can, none among a round's 4 updates"),
        ({"name": "norm_bound", "args": {"inner": {"name": "multikrum"}}}, 9,
         "strategy.args.inner.args.byzantine is not said, so MultiKrum withstands as many liars as it can, 3 among"),
        ({"name": "nnm", "args": {"inner": {"name": "geometric_median"}}}, 9, "4 among a round's 9 updates"),
    ],
)  # fmt: skip
def test_a_rule_without_its_number_of_liars_says_what_it_takes(tmp_path: Path, strategy, clients, words):
    config = toy.config(tmp_path, strategy=strategy, data={"args": {"clients": clients}})
    (finding,) = preflight(config).findings
    assert finding.topic == "byzantine"
    assert words in finding.text


@pytest.mark.parametrize("strategy", [{"name": "trimmed_mean", "args": {"byzantine": 1}}, {"name": "median"}])
def test_a_rule_that_is_told_its_number_or_takes_none_says_nothing(tmp_path: Path, strategy):
    assert preflight(toy.config(tmp_path, strategy=strategy)).findings == ()
