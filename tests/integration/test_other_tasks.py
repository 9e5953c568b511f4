"""Runs that are no classification, and runs whose server has no test set: each from its config to an int8 artefact.

Numbers are predicted and inputs reconstructed with and without DP; a federation without a server test set is
evaluated on its clients, never so under DP, and its artefacts are compared on public examples, else on synthetic ones.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy

import simulation.run
from fl_core.config import load_config
from fl_core.config.federation import federation_of
from fl_core.data.federation import ClientData, Examples
from fl_core.errors import DataError
from fl_core.export.artifact import load_artifact
from fl_core.runlog import read_events
from fl_server.plan.setup import Setup
from simulation.try_artifact import try_artifact

PREDICT = {
    "data": {"factory": "toy:numbers"},
    "model": {"factory": "toy:predictor"},
    "task": {"name": "regression"},
    "clients": {"batch_size": 8, "local_epochs": 4, "optimizer": {"learning_rate": 0.3}},
}
RECONSTRUCT = {
    "data": {"factory": "toy:waves"},
    "model": {"factory": "toy:squeeze"},
    "task": {"name": "reconstruction"},
    "clients": {"batch_size": 8, "local_epochs": 4, "optimizer": {"learning_rate": 0.5, "momentum": 0.9}},
}
PRIVATE = {
    "privacy": {"epsilon": 50.0, "delta": 1e-5},
    "clients": {"batch_size": 24, "local_epochs": 4, "optimizer": {"learning_rate": 1.0}},
}


def run(out: Path, rounds: int, **sections: Any) -> Path:
    """A finished run that exports after its last round."""
    once = {"run": {"name": "run", "rounds": rounds}, "export": {"every": rounds}}
    return simulation.run.run(toy.config(out, **sections, **once))


def summary_of(folder: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


def events_of(folder: Path, kind: str) -> list[Any]:
    return [event for event in read_events(folder) if event["kind"] == kind]


@pytest.mark.parametrize(("private", "error_left"), [(False, 0.5), (True, 0.8)], ids=["no DP", "DP"])
@pytest.mark.parametrize(
    ("sections", "metric"),
    [(PREDICT, "negative mean absolute error"), (RECONSTRUCT, "negative mean squared error")],
    ids=["regression", "reconstruction"],
)
def test_other_tasks_learn_and_end_in_an_artefact_that_computes_the_same(
    sections: dict[str, Any], metric: str, private: bool, error_left: float, tmp_path: Path
) -> None:
    folder = run(tmp_path, 6, **(sections | (PRIVATE if private else {})))
    summary = summary_of(folder)
    assert summary["metric"] == metric
    assert 0 > summary["accuracy_int8"] > error_left * summary["initial_accuracy"]
    assert summary["accuracy_int8"] == pytest.approx(summary["accuracy_float"], abs=0.005)
    assert summary["parity"]["top1_agreement"] is None
    assert summary["parity"]["max_lsb"] <= 1
    assert (summary["privacy"] is None) == (not private)
    artifact, runner = load_artifact(folder / "rounds" / "0006" / "onnx")
    assert sum(artifact.kernels.integer_kernels.values()) >= 2
    config = load_config(folder / "config.yaml")
    federation = federation_of(config)
    assert federation.test is not None
    task = Setup.of(config, federation).task
    again = float(task.example_score(runner.run(federation.test.x), federation.test.y).mean())
    assert again == pytest.approx(summary["accuracy_int8"])
    assert artifact.accuracy == pytest.approx(again)


def test_without_a_server_test_set_the_clients_evaluate_and_parity_runs_on_public_examples(tmp_path: Path) -> None:
    folder = run(tmp_path, 2, data={"args": {"test": 0}})
    (first, last) = (event["evaluation"] for event in events_of(folder, "round_finished"))
    assert first["examples"] == last["examples"] == 4 * 16
    assert 0.5 < last["accuracy_float"] <= 1
    assert last["accuracy_int8"] is None
    summary = summary_of(folder)
    assert (summary["initial_accuracy"], summary["accuracy_int8"]) == (None, None)
    assert summary["accuracy_fake_quant"] == pytest.approx(last["accuracy_fake_quant"])
    assert summary["parity"]["examples"] == 32
    assert try_artifact(folder, 3).answers[0].source.startswith("client-0, row")


@pytest.mark.parametrize(("public", "compared"), [(32, 32), (0, 256)], ids=["public examples", "synthetic inputs"])
def test_under_dp_no_score_leaves_a_client_and_the_artefact_is_compared_all_the_same(
    public: int, compared: int, tmp_path: Path
) -> None:
    privacy = {"epsilon": 8.0, "delta": 1e-5}
    folder = run(tmp_path, 2, data={"args": {"test": 0, "public": public}}, privacy=privacy)
    assert [event["evaluation"] for event in events_of(folder, "round_finished")] == [None, None]
    assert {event["visibility"] for event in events_of(folder, "client_evaluated")} == {"simulation"}
    summary = summary_of(folder)
    for figure in ("initial_accuracy", "accuracy_float", "accuracy_fake_quant", "accuracy_int8"):
        assert summary[figure] is None, figure
    assert summary["parity"]["examples"] == compared
    assert summary["parity"]["top1_agreement"] >= 0.99
    artifact, _ = load_artifact(folder / "rounds" / "0002" / "onnx")
    assert artifact.accuracy is None


def test_targets_that_do_not_fit_the_task_are_refused_by_name_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"client client-0, train; .* and 1 more: classification expects one class index"
    ):
        Setup.of(toy.config(tmp_path, model={"args": {"outputs": 3}}), toy.numbers())
    good = toy.data()
    wrong = Examples(good.clients["client-2"].train.x, np.full(48, 3))
    clients = {**good.clients, "client-2": ClientData(wrong)}
    with pytest.raises(DataError, match="client client-2, train: expected classes 0 to 2, got 3 to 3"):
        Setup.of(toy.config(tmp_path), replace(good, clients=clients))
