"""A comparison: one table from the events of its runs, the same from any number of processes, and it goes on."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fl_core.config import load_config
from fl_core.data.partition import PartitionSpec
from fl_core.errors import ConfigError, RunFolderError
from fl_server.watch.state import RunState
from simulation.cli import app
from simulation.compare import figures
from simulation.compare import run as compare

CONFIG = """
run: {name: tiny, rounds: 2, seed: 3}
data: {factory: "simulation.conformance.data:blobs"}
model: {factory: "simulation.conformance.data:net"}
clients: {batch_size: 8, optimizer: {learning_rate: 0.1}}
strategy: {name: fedavg, args: {server_learning_rate: 1.5}}
export: {formats: []}
"""


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG)
    return path


def call(config_file: Path, out: Path, *args: str) -> str:
    words = ["compare", str(config_file), "--strategies", "fedavg,fedavgm(momentum=0.5)", "--out", str(out), *args]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def events(out: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in sorted(out.glob("*/events.jsonl"))}


def test_a_comparison_writes_one_table_and_uses_finished_runs_again(config_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    table = json.loads(call(config_file, out, "--seeds", "2", "--workers", "2", "--json"))
    assert {row["strategy"] for row in table["rows"]} == {"fedavg", "fedavgm(momentum=0.5)"}
    assert all(row["seeds"] == 2 and 0 <= row["accuracy"] <= 1 for row in table["rows"])
    assert table["rows"][0]["accuracy"] >= table["rows"][1]["accuracy"]
    with (out / "compare.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["strategy"] for row in rows] == [row["strategy"] for row in table["rows"]]
    assert len((out / "compare.md").read_text().splitlines()) == 2 + 2 + len(rows)
    assert (out / "compare.png").read_bytes().startswith(b"\x89PNG")
    before = events(out)
    assert len(before) == 4
    shutil.rmtree(out / "fedavg-seed3")  # as if the command had been stopped before this run
    again = json.loads(call(config_file, out, "--seeds", "2", "--workers", "1", "--json"))
    assert again == table
    assert {name: text for name, text in events(out).items() if name != "fedavg-seed3"} == {
        name: text for name, text in before.items() if name != "fedavg-seed3"
    }


def test_a_folder_of_another_config_is_refused(config_file: Path, tmp_path: Path) -> None:
    call(config_file, tmp_path / "out")
    config = load_config(config_file, ["clients.batch_size=4"])
    cells = compare.plan(config, "fedavg", 1, tmp_path / "out", {})
    with pytest.raises(RunFolderError, match="another config"):
        list(compare.run_cells(cells, 1))


def test_the_configs_own_arguments_hold_where_none_are_given(config_file: Path, tmp_path: Path) -> None:
    cells = compare.plan(load_config(config_file), "fedavg,fedprox(mu=0.5)", 2, tmp_path, {})
    assert [cell.config.strategy.args for cell in cells[::2]] == [{"server_learning_rate": 1.5}, {"mu": 0.5}]
    assert [cell.seed for cell in cells] == [3, 4, 3, 4]


def test_all_problems_are_said_at_once(config_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        compare.plan(load_config(config_file), "fedavgg,fedavg(,fedprox(mu=-1),fedavg,fedavg", 1, tmp_path, {})
    text = str(raised.value)
    assert all(words in text for words in ("fedavgg", "mu: expected", "twice"))


@pytest.mark.parametrize("text", ["iid:3", "dirichlet:x", "dirichlet", "nonsense"])
def test_a_partition_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--partition"):
        compare.read_partition(text)


def test_partitions_and_attacks_become_fields_of_the_config() -> None:
    assert compare.read_partition("dirichlet:0.1") == {"kind": "dirichlet", "alpha": 0.1}
    assert PartitionSpec(**({"clients": 4, "alpha": 0.1} | compare.read_partition("natural"))) == PartitionSpec()
    assert compare.read_attack("sign_flip:2") == {"name": "sign_flip", "clients": 2, "args": {}}
    with pytest.raises(ConfigError, match="sign_flip"):
        compare.read_attack("sign_flap")


def test_an_attack_reaches_the_runs(config_file: Path, tmp_path: Path) -> None:
    overrides = {"simulation": {"attack": compare.read_attack("sign_flip:2")}}
    (cell,) = compare.plan(load_config(config_file), "median", 1, tmp_path, overrides)
    assert cell.config.simulation.attack is not None
    list(compare.run_cells([cell], 1))
    assert figures.accuracies(RunState(), figures.common_form({"none": [RunState()]})) == []
    assert "sign_flip" in (cell.folder / "config.yaml").read_text()
