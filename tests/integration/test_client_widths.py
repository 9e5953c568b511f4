"""Clients of different weight widths in one run: one global model, and for every width an artefact that is proven."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import toy
from onnx import numpy_helper

from fl_client.trainer.task import ClientTask
from fl_core.config.federation import federation_of
from fl_core.errors import ConfigError
from fl_core.export.artifact import load_artifact, replay
from fl_core.runlog import Event, read_events
from fl_core.tree import FixedPointSum, add_scaled, digest
from fl_core.types import ClientUpdate, RoundPlan, Tensors
from fl_core.update import decode_update
from fl_server.plan.setup import Setup
from fl_server.plan.tasks import plan_of
from fl_server.rounds.checkpoint import load_checkpoint
from simulation.engines.clients import build_trainer
from simulation.preflight import preflight
from simulation.run import resume, run

OWN = {"client-1": 4, "client-3": 2}
FOLDERS = {8: "onnx", 4: "onnx-4bit", 2: "onnx-2bit"}


def config(out: Path, bits: dict[str, int] | None = None, **sections: object):
    return toy.config(out, quant={"client_bits": OWN if bits is None else bits, "ranges": "learned"}, **sections)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    return run(config(tmp_path_factory.mktemp("widths")))


def of_kind(folder: Path, kind: str) -> list[Event]:
    return [event for event in read_events(folder) if event["kind"] == kind]


def model_of(folder: Path) -> Tensors:
    checkpoint = load_checkpoint(folder / "checkpoint")
    assert checkpoint is not None
    return checkpoint.state.model


def widest_weight(path: Path) -> int:
    """Largest magnitude among the int8 tensors of a file with more than one dimension."""
    tensors = [numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer]
    return max(int(np.abs(t.astype(int)).max()) for t in tensors if t.dtype == np.int8 and t.ndim > 1)


def test_every_width_has_an_artefact_of_its_own_that_is_proven(run_dir):
    published = of_kind(run_dir, "artifact_published")
    assert [(event["round"], event["weight_bits"]) for event in published] == [
        (r, b) for r in (1, 2, 3) for b in FOLDERS
    ]
    for bits, name in FOLDERS.items():
        folder = run_dir / "rounds" / "0003" / name
        replay(folder)
        artifact, _ = load_artifact(folder)
        assert artifact.origin.weight_bits == bits
        assert artifact.parity.max_lsb <= 1
        assert widest_weight(folder / artifact.path) == 2 ** (bits - 1) - 1


def updates(out: Path, own: dict[str, int]) -> tuple[list[RoundPlan], list[ClientUpdate], Tensors]:
    """Plans and answers of the first round, straight from the trainer, and the model before it."""
    plain = config(out, own)
    federation = federation_of(plain)
    setup = Setup.of(plain, federation)
    trainer = build_trainer(plain, federation, out)
    start = setup.initial_state().model
    plans = [plan_of(setup, trainer.info(name), 1, 0) for name in sorted(federation.clients)]
    results = trainer.train_many([ClientTask(plan, start) for plan in plans])
    return plans, [decode_update(result.encoded or b"", result.client_id) for result in results], start


def test_the_mean_treats_all_widths_alike(tmp_path):
    plans, answers, start = updates(tmp_path / "by hand", OWN)
    total = FixedPointSum()
    for answer in answers:
        total = total.add(answer.parts["delta"].tensors, answer.weight)
    after = model_of(run(config(tmp_path, run={"rounds": 1})))
    assert digest(after) == digest(add_scaled(start, total.mean(), 1.0))
    # A client is told its own width and nobody else's, and trains at it.
    assert [plan.training["quant"]["weight_bits"] for plan in plans] == [8, 4, 8, 2]
    assert not any(plan.training["quant"]["client_bits"] for plan in plans)
    _, wide, _ = updates(tmp_path / "wide", {})
    same = [
        digest(a.parts["delta"].tensors) == digest(b.parts["delta"].tensors) for a, b in zip(answers, wide, strict=True)
    ]
    assert same == [True, False, True, False]


def test_a_run_that_was_stopped_ends_with_the_same_bits(run_dir, tmp_path):
    class PowerCutError(Exception):
        pass

    def stop(event: Event) -> None:
        if event["kind"] == "artifact_published" and (event["round"], event["weight_bits"]) == (2, 4):
            raise PowerCutError

    with pytest.raises(PowerCutError):
        run(config(tmp_path), listeners=[stop])
    other = resume(tmp_path / "toy")
    assert digest(model_of(other)) == digest(model_of(run_dir))
    for name in FOLDERS.values():
        files = [load_artifact(folder / "rounds" / "0003" / name)[0].files for folder in (run_dir, other)]
        assert files[0] == files[1]


def test_each_client_is_evaluated_with_the_artefact_of_its_own_width(run_dir):
    last = {event["client_id"]: event for event in of_kind(run_dir, "client_evaluated") if event["round"] == 3}
    for name, client in federation_of(config(run_dir)).clients.items():
        _, runner = load_artifact(run_dir / "rounds" / "0003" / FOLDERS[OWN.get(name, 8)])
        right = runner.run(client.test.x).argmax(axis=1) == client.test.y
        assert last[name]["accuracy_int8"] == pytest.approx(right.mean())


def test_summary_and_report_list_every_width_with_its_accuracy(run_dir):
    summary = json.loads((run_dir / "summary.json").read_text())
    widths = {width["weight_bits"]: width for width in summary["widths"]}
    assert {bits: width["clients"] for bits, width in widths.items()} == {
        8: ["client-0", "client-2"], 4: ["client-1"], 2: ["client-3"],
    }  # fmt: skip
    test = federation_of(config(run_dir)).test
    for bits, name in FOLDERS.items():
        artifact, runner = load_artifact(run_dir / "rounds" / "0003" / name)
        assert widths[bits]["artifacts"] == [f"rounds/0003/{name}/{artifact.path}"]
        right = (runner.run(test.x).argmax(axis=1) == test.y).mean()
        assert widths[bits]["accuracy_int8"] == pytest.approx(right) == pytest.approx(artifact.accuracy)
        assert widths[bits]["artifacts"][0] in (run_dir / "report.html").read_text()
    # What the run is known by is the width of the config.
    assert summary["accuracy_int8"] == widths[8]["accuracy_int8"]
    assert summary["parity"]["max_lsb"] == load_artifact(run_dir / "rounds" / "0003" / "onnx")[0].parity.max_lsb


def test_without_a_test_set_the_clients_of_each_width_are_pooled(tmp_path):
    plain = config(tmp_path, data={"args": {"test": 0}}, export={"formats": []}, run={"rounds": 1})
    (finished,) = of_kind(run(plain), "round_finished")
    widths = finished["evaluation"]["widths"]
    assert {bits: record["examples"] for bits, record in widths.items()} == {"8": 32, "4": 16, "2": 16}
    pooled = sum(record["examples"] * record["accuracy_fake_quant"] for record in widths.values()) / 64
    assert finished["evaluation"]["accuracy_fake_quant"] == pytest.approx(pooled)


def test_a_fleet_of_one_width_has_one_artefact(tmp_path):
    folder = run(toy.config(tmp_path, run={"rounds": 1}))
    assert [path.name for path in (folder / "rounds" / "0001").iterdir()] == ["onnx"]
    assert json.loads((folder / "summary.json").read_text())["widths"] == []


@pytest.mark.parametrize(
    ("bits", "said"), [({"client-9": 4}, "got client-9"), ({"client-1": 9}, "must be 2 to 8, got 9")]
)
def test_widths_that_cannot_be_are_refused(tmp_path, bits, said):
    with pytest.raises(ConfigError, match=said):
        preflight(config(tmp_path, bits))
