"""summary.json holds the figures that the design promises to scripts, and null where a run has none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fl_core.errors import RunFolderError
from fl_server.report.summary import write_summary
from support.synthetic_run import UNIT, accuracy_after, write_run

PROMISED = {
    "rounds_done", "clients", "strategy", "model", "seed", "accuracy_float", "accuracy_fake_quant", "accuracy_int8",
    "parity", "privacy", "user_privacy", "bytes_up", "bytes_down", "artifacts", "seconds", "clients_per_second",
    "peak_rss_mb", "versions", "initial_accuracy", "clients_accuracy_mean", "clients_accuracy_worst", "groups",
    "personal_accuracy_mean", "personal_accuracy_worst", "metric", "name", "beside", "widths", "findings",
    "attack", "best", "median_last",
}  # fmt: skip


def test_summary_has_every_promised_figure(tmp_path: Path) -> None:
    path = write_summary(write_run(tmp_path, clients=4, rounds=3), seconds=6.0, peak_rss_mb=512.34)
    summary = json.loads(path.read_text())
    assert summary.keys() == PROMISED
    assert (summary["rounds_done"], summary["clients"], summary["strategy"], summary["seed"]) == (3, 4, "fedavg", 1)
    assert summary["accuracy_int8"] == pytest.approx(accuracy_after(3) - 0.001)
    assert summary["initial_accuracy"] == pytest.approx(0.138)
    assert summary["parity"] == {"examples": 200, "top1_agreement": 1.0, "max_lsb": 1, "exact_fraction": 0.998}
    assert summary["privacy"]["epsilon_max"] == pytest.approx(0.9 * 3**0.5)
    assert summary["privacy"]["unit_text"] == UNIT
    assert summary["privacy"]["simulated"] is True
    assert (summary["bytes_up"], summary["bytes_down"]) == (3 * 4 * 40_000, 3 * 4 * 41_000)
    assert summary["artifacts"] == [
        {"format": "onnx", "weight_bits": 8, "bytes": 14_100, "bytes_float": 46_200, "path": "rounds/0003/onnx"}
    ]
    assert (summary["seconds"], summary["clients_per_second"], summary["peak_rss_mb"]) == (6.0, 2.0, 512.3)
    assert summary["clients_accuracy_worst"]["client_id"] == "person 4"
    packages = {"python", "torch", "flwr", "opacus", "onnx", "onnxruntime", "numpy", "stonecrop"}
    assert summary["versions"].keys() == packages


def test_figures_that_a_run_lacks_are_null(tmp_path: Path) -> None:
    path = write_summary(write_run(tmp_path, private=False, test_set=False, rounds=1), seconds=2.5, peak_rss_mb=1.0)
    summary = json.loads(path.read_text())
    assert summary["privacy"] is None
    assert summary["accuracy_int8"] is summary["accuracy_float"] is summary["initial_accuracy"] is None
    assert summary["seconds"] == 2.5


def test_a_run_without_a_finished_round_has_a_summary(tmp_path: Path) -> None:
    path = write_summary(write_run(tmp_path, rounds=0, finished=False), peak_rss_mb=1.0)
    summary = json.loads(path.read_text())
    assert summary["rounds_done"] == 0
    assert summary["clients_per_second"] is summary["parity"] is None


def test_the_run_beside_is_taken_in_with_its_path(tmp_path: Path) -> None:
    other = write_run(tmp_path / "beside" / "no_dp", name="no_dp", private=False)
    write_summary(other, seconds=2.5, peak_rss_mb=1.0)
    path = write_summary(write_run(tmp_path), seconds=2.5, peak_rss_mb=1.0)
    (beside,) = json.loads(path.read_text())["beside"]
    assert (beside["name"], beside["path"], beside["privacy"]) == ("no_dp", "beside/no_dp", None)


def test_a_folder_without_events_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="expected a run folder"):
        write_summary(tmp_path, seconds=2.5, peak_rss_mb=1.0)
