"""A companion is a whole run in its run's folder; run folders that call it ``beside`` are gone on with and read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fl_core.config import load_config
from fl_core.runlog import Event, is_finished
from fl_server.report.build import build_report
from fl_server.report.summary import write_summary
from fl_server.rounds.checkpoint import load_checkpoint
from simulation.conformance.server_half import bits
from simulation.preflight import validate
from simulation.run import resume, run

CONFIG = """
run: {name: NAME, rounds: 2, seed: SEED, KEY}
data: {factory: "simulation.conformance.data:blobs"}
model: {factory: "simulation.conformance.data:net"}
clients: {batch_size: 8, optimizer: {learning_rate: 0.1}}
export: {formats: []}
"""


def config_file(folder: Path, key: str = "companion") -> Path:
    texts = {"one": (3, f"{key}: other.yaml"), "other": (9, "")}
    for name, (seed, line) in texts.items():
        text = CONFIG.replace("NAME", name).replace("SEED", str(seed)).replace("KEY", line)
        (folder / f"{name}.yaml").write_text(text)
    return folder / "one.yaml"


def final_bits(run_dir: Path) -> str:
    checkpoint = load_checkpoint(run_dir / "checkpoint")
    assert checkpoint is not None
    return str(bits(checkpoint.state))


def stop_in_the_second_round(event: Event) -> None:
    if event["kind"] == "client_finished" and event["round"] == 2:
        raise KeyboardInterrupt


def test_a_companion_runs_with_the_same_seed_and_stands_in_summary_and_report(tmp_path: Path) -> None:
    run_dir = run(load_config(config_file(tmp_path)), tmp_path / "runs")
    companion = run_dir / "companion" / "other"
    assert is_finished(companion)
    assert load_config(companion / "config.yaml").run.seed == 3
    (told,) = json.loads((run_dir / "summary.json").read_text())["beside"]
    assert (told["name"], told["path"]) == ("other", "companion/other")
    assert "other (beside)" in (run_dir / "report.html").read_text()


def test_a_run_folder_of_before_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    config = load_config(config_file(tmp_path))
    straight = run(config, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "stopped", listeners=[stop_in_the_second_round])
    stopped = tmp_path / "stopped" / "one"
    (stopped / "companion").rename(stopped / "beside")
    resolved = stopped / "config.yaml"
    resolved.write_text(resolved.read_text().replace("companion:", "beside:").replace("companion/", "beside/"))
    resume(stopped)
    assert not (stopped / "companion").exists()
    for old, new in (("", ""), ("beside/other", "companion/other")):
        assert final_bits(stopped / old) == final_bits(straight / new)
    (told,) = json.loads((stopped / "summary.json").read_text())["beside"]
    assert (told["name"], told["path"]) == ("other", "beside/other")
    assert "other (beside)" in build_report(stopped).read_text()
    assert json.loads(write_summary(stopped, 1.0).read_text())["beside"] == [told]


def test_the_old_key_runs_into_the_new_folder(tmp_path: Path) -> None:
    path = config_file(tmp_path, "beside")
    assert validate(path).config.run.companion == str(tmp_path / "other.yaml")
    run_dir = run(load_config(path), tmp_path / "runs")
    assert is_finished(run_dir / "companion" / "other")
