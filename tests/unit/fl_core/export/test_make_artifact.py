"""The folder of an artefact: whole or absent, trusted by nobody, without private examples."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lowered_zoo import examples, imu_net, reference

from fl_core.errors import ExportError, ParityError
from fl_core.export.artifact import Artifact, Origin, load_artifact, read_artifact, replay
from fl_core.export.make import GOLDEN_EXAMPLES, ExportRequest, input_range, make_artifact, synthetic_inputs
from fl_core.export.onnx.exporter import OnnxExporter

LOWERED = imu_net("asymmetric")
X = examples(LOWERED)
ORIGIN = Origin("r", 1)


def make(out: Path, golden_BX: Any = None, score: Any = None) -> Artifact:
    request = ExportRequest(LOWERED, X, reference(LOWERED, X), True, ORIGIN, golden_BX)
    return make_artifact(request, OnnxExporter(), out, score).artifact


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    record = json.loads((folder / "artifact.json").read_text())
    change(record)
    (folder / "artifact.json").write_text(json.dumps(record))


def test_parity_examples_are_not_stored(tmp_path: Path) -> None:
    made = make(tmp_path / "out")
    stored = {row.tobytes() for row in made.golden.inputs}
    assert len(stored) == GOLDEN_EXAMPLES
    assert not stored & {row.tobytes() for row in X}
    low, high = input_range(LOWERED)
    assert low <= made.golden.inputs.min() < made.golden.inputs.max() <= high


def test_golden_inputs_are_the_given_ones(tmp_path: Path) -> None:
    public = synthetic_inputs(LOWERED, 20, np.random.default_rng(5))
    assert np.array_equal(make(tmp_path / "out", golden_BX=public).golden.inputs, public[:GOLDEN_EXAMPLES])


def test_accuracy_is_that_of_the_artefact(tmp_path: Path) -> None:
    assert make(tmp_path / "out").accuracy is None
    got = make(tmp_path / "out", score=lambda outputs_BK: float(outputs_BK.sum())).accuracy
    assert got == load_artifact(tmp_path / "out")[1].run(X).sum()


def test_same_artefact_twice_gives_the_same_record(tmp_path: Path) -> None:
    make(tmp_path / "a")
    make(tmp_path / "b")
    assert (tmp_path / "a" / "artifact.json").read_bytes() == (tmp_path / "b" / "artifact.json").read_bytes()


def test_changed_golden_output_fails_the_replay(tmp_path: Path) -> None:
    made = make(tmp_path / "out")
    wrong = made.golden.outputs.copy()
    wrong[2, 1] += 1

    def change(record: dict[str, Any]) -> None:
        record["golden"]["outputs"]["base64"] = base64.b64encode(wrong.tobytes()).decode()

    edit(tmp_path / "out", change)
    with pytest.raises(ParityError, match=r"1 of \d+ values different by up to 1 LSB"):
        replay(tmp_path / "out")


@pytest.mark.parametrize("path", ["../model.onnx", "/etc/hostname", "", "..", "a/../model.onnx"])
def test_file_outside_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    make(tmp_path / "out")
    (tmp_path / "model.onnx").write_bytes((tmp_path / "out" / "model.onnx").read_bytes())
    edit(tmp_path / "out", lambda record: record.update(path=path))
    with pytest.raises(ExportError, match="expected a file of this folder"):
        read_artifact(tmp_path / "out")


def test_link_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "out")
    file = tmp_path / "out" / "model.onnx"
    file.rename(tmp_path / "elsewhere.onnx")
    file.symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(ExportError, match="expected the file"):
        read_artifact(tmp_path / "out")


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.pop("golden"),
        lambda record: record["files"]["model.onnx"].pop("sha256"),
        lambda record: record.update(surprise=1),
        lambda record: record["parity"].pop("max_lsb"),
        lambda record: record["golden"]["inputs"].update(base64="AAAA"),
        lambda record: record["golden"]["inputs"].update(dtype="object"),
        lambda record: record.update(version=99),
    ],
)
def test_damaged_record_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    make(tmp_path / "out")
    edit(tmp_path / "out", change)
    with pytest.raises(ExportError, match=r"damaged|expected version"):
        read_artifact(tmp_path / "out")


def test_torn_record_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "out")
    record = tmp_path / "out" / "artifact.json"
    record.write_bytes(record.read_bytes()[:-20])
    with pytest.raises(ExportError, match="damaged"):
        read_artifact(tmp_path / "out")
    with pytest.raises(ExportError, match=r"expected artifact\.json, got none"):
        read_artifact(tmp_path)


def test_crash_leaves_no_half_artefact(tmp_path: Path) -> None:
    def crash(outputs_BK: Any) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "out", score=crash)
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_export_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / ".out.tmp").mkdir()
    (tmp_path / ".out.tmp" / "model.onnx").write_bytes(b"half")
    make(tmp_path / "out")
    replay(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
