"""Artefacts of several files, and artefacts that only their own device can prove."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lowered_zoo import examples, image_net, reference

from fl_core.errors import ExportError
from fl_core.export import registry
from fl_core.export.artifact import ArtifactFile, Origin, load_artifact, read_artifact, replay
from fl_core.export.base import KernelProof, Proof
from fl_core.export.integer_runner import IntegerRunner
from fl_core.export.make import ExportRequest, MadeArtifact, make_artifact
from fl_core.export.parity import ParityLimits
from fl_core.quant.lowered import Lowered, weighted_layers

LOWERED = image_net("asymmetric")
X = examples(LOWERED)
REQUEST = ExportRequest(LOWERED, X, reference(LOWERED, X), True, Origin("r", 1))


class TwoFiles:
    """A format of two files: names of the layers, and their weights. Its runtime is the integer evaluator."""

    name = "two_files"

    def __init__(self, proof: Proof = "here") -> None:
        self.proof: Proof = proof

    def unsupported(self, lowered: Lowered) -> list[str]:
        return []

    def limits(self, lowered: Lowered, classes: bool) -> ParityLimits:
        return ParityLimits(1.0 if classes else None, 0)

    def export(self, lowered: Lowered, out: Path, metadata: Mapping[str, str]) -> tuple[Path, ...]:
        layers, weights = out / "layers.json", out / "weights.bin"
        layers.write_text(json.dumps([node.name for node in lowered.nodes]))
        weights.write_bytes(b"".join(node.weight.tobytes() for node in lowered.nodes if node.weight is not None))
        return layers, weights

    def export_float(self, lowered: Lowered, out: Path) -> tuple[Path, ...]:
        paths = out / "float.json", out / "float.bin"
        for path in paths:
            path.write_bytes(bytes(1000))
        return paths

    def load(self, path: Path) -> IntegerRunner:
        if self.proof == "on_device":
            raise AssertionError("nothing may load here what only its device can run")
        return IntegerRunner(LOWERED)

    def inspect(self, path: Path) -> tuple[IntegerRunner, KernelProof]:
        layers = weighted_layers(LOWERED)
        return self.load(path), KernelProof("evaluator", {"layer": len(layers)}, {}, {}, tuple(layers))


@pytest.fixture(params=["here", "on_device"])
def proof(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Proof:
    monkeypatch.setattr(registry, "EXPORTERS", {"two_files": lambda: TwoFiles(request.param)})
    return request.param  # type: ignore[no-any-return]


def make(proof: Proof, out: Path) -> MadeArtifact:
    return make_artifact(REQUEST, TwoFiles(proof), out, lambda outputs_BK: float(outputs_BK.sum()))


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    record = json.loads((folder / "artifact.json").read_text())
    change(record)
    (folder / "artifact.json").write_text(json.dumps(record))


def test_every_file_is_recorded_and_they_count_together(tmp_path: Path, proof: Proof) -> None:
    artifact = make(proof, tmp_path / "out").artifact
    assert artifact.path == "layers.json"
    sizes = {name: (tmp_path / "out" / name).stat().st_size for name in ("layers.json", "weights.bin")}
    assert {name: file.bytes for name, file in artifact.files.items()} == sizes
    assert artifact.bytes == sum(sizes.values())
    assert artifact.bytes_float == 2000
    record = json.loads((tmp_path / "out" / "artifact.json").read_text())
    assert (record["version"], record["bytes"], record["proof"]) == (2, artifact.bytes, proof)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["artifact.json", "layers.json", "weights.bin"]


def test_record_reads_back_as_it_was_made(tmp_path: Path, proof: Proof) -> None:
    made, read = make(proof, tmp_path / "out").artifact, read_artifact(tmp_path / "out")
    assert (read.files, read.path, read.proof) == (made.files, made.path, made.proof)
    assert (read.parity, read.kernels, read.accuracy) == (made.parity, made.kernels, made.accuracy)
    assert np.array_equal(read.golden.outputs, made.golden.outputs)


@pytest.mark.parametrize("name", ["layers.json", "weights.bin"])
def test_change_of_any_file_is_refused(tmp_path: Path, proof: Proof, name: str) -> None:
    make(proof, tmp_path / "out")
    path = tmp_path / "out" / name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ExportError, match=f"expected {name} of .* bytes and SHA-256"):
        read_artifact(tmp_path / "out")
    path.unlink()
    with pytest.raises(ExportError, match=f"expected the file {name}, got none"):
        read_artifact(tmp_path / "out")
    path.symlink_to("/etc/hostname")
    with pytest.raises(ExportError, match=f"expected the file {name}, got none"):
        read_artifact(tmp_path / "out")


def test_file_that_is_not_recorded_is_refused(tmp_path: Path, proof: Proof) -> None:
    make(proof, tmp_path / "out")
    (tmp_path / "out" / "weights.ext").write_bytes(b"")
    with pytest.raises(ExportError, match=r"expected the recorded files alone, got weights\.ext as well"):
        read_artifact(tmp_path / "out")


def test_exporter_that_leaves_a_file_behind_is_vetoed(tmp_path: Path) -> None:
    class Untidy(TwoFiles):
        def export(self, lowered: Lowered, out: Path, metadata: Mapping[str, str]) -> tuple[Path, ...]:
            (out / "scratch").write_bytes(b"")
            return super().export(lowered, out, metadata)

    with pytest.raises(ExportError, match="got scratch as well"):
        make_artifact(REQUEST, Untidy(), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out.vetoed"]


@pytest.mark.parametrize("name", ["../weights.bin", "/etc/hostname", "..", "", "artifact.json"])
def test_recorded_name_outside_the_folder_is_refused(tmp_path: Path, proof: Proof, name: str) -> None:
    made = make(proof, tmp_path / "out").artifact
    moved = {name: made.files["weights.bin"]} | {"layers.json": made.files["layers.json"]}
    (tmp_path / "weights.bin").write_bytes((tmp_path / "out" / "weights.bin").read_bytes())
    edit(tmp_path / "out", lambda record: record.update(files={key: vars(file) for key, file in moved.items()}))
    with pytest.raises(ExportError, match="expected a file of this folder"):
        read_artifact(tmp_path / "out")


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(bytes=record["bytes"] + 1),
        lambda record: record.update(proof="elsewhere"),
        lambda record: record.update(files=[]),
        lambda record: record.pop("proof"),
    ],
)
def test_record_that_contradicts_itself_is_damaged(
    tmp_path: Path, proof: Proof, change: Callable[[dict[str, Any]], None]
) -> None:
    make(proof, tmp_path / "out")
    edit(tmp_path / "out", change)
    with pytest.raises(ExportError, match=r"artifact\.json is damaged"):
        read_artifact(tmp_path / "out")


def test_what_its_device_alone_can_run_is_published_unproven(tmp_path: Path) -> None:
    made = make("on_device", tmp_path / "out")
    artifact = made.artifact
    assert made.runner is None
    assert made.outputs_BK is None
    assert (artifact.proof, artifact.parity, artifact.kernels, artifact.accuracy) == ("on_device", None, None, None)
    expected = IntegerRunner(LOWERED)
    assert np.array_equal(artifact.golden.outputs, expected.integers(artifact.golden.inputs))
    assert artifact.output_scale == expected.output_scale


@pytest.mark.parametrize("proof", ["on_device"], indirect=True)
def test_no_reader_takes_the_unproven_for_verified(tmp_path: Path, proof: Proof) -> None:
    make(proof, tmp_path / "out")
    assert read_artifact(tmp_path / "out").proof == "on_device"
    for use in (load_artifact, replay):
        with pytest.raises(ExportError, match="got proof on_device: it is unproven until its own device"):
            use(tmp_path / "out")


@pytest.mark.parametrize("proof", ["on_device"], indirect=True)
def test_the_word_here_alone_does_not_make_a_proof(tmp_path: Path, proof: Proof) -> None:
    make(proof, tmp_path / "out")
    edit(tmp_path / "out", lambda record: record.update(proof="here"))
    with pytest.raises(ExportError, match=r"artifact\.json is damaged"):
        load_artifact(tmp_path / "out")


@pytest.mark.parametrize("proof", ["here"], indirect=True)
def test_what_is_proven_here_loads_and_replays(tmp_path: Path, proof: Proof) -> None:
    made = make(proof, tmp_path / "out")
    assert made.artifact.parity is not None
    assert made.artifact.parity.exact_fraction == 1.0
    assert load_artifact(tmp_path / "out")[0].files == made.artifact.files
    replay(tmp_path / "out")


def test_a_file_is_measured_by_size_and_hash(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert ArtifactFile.of(tmp_path / "f") == ArtifactFile(3, digest)
