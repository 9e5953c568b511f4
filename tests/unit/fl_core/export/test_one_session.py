"""A runtime is loaded once an artefact: the session that is proven is the one that answers afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lowered_zoo import examples, look_up_net, reference, residual_net

from fl_core.export.artifact import Origin, load_artifact
from fl_core.export.make import ExportRequest, MadeArtifact, make_artifact
from fl_core.export.onnx.exporter import OnnxExporter

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The file of each session that is opened from now on; every session is a real one."""
    opened: list[str] = []

    class Counted(onnxruntime.InferenceSession):  # type: ignore[misc,name-defined]
        def __init__(self, path: str, *args: Any, **more: Any) -> None:
            opened.append(Path(path).name)
            super().__init__(path, *args, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Counted)
    return opened


@pytest.mark.parametrize("sketch", [residual_net, look_up_net])
@pytest.mark.parametrize("grid", ["asymmetric", "symmetric"])
def test_one_session_makes_proves_and_answers(sketch: Any, grid: str, tmp_path: Path, sessions: list[str]) -> None:
    lowered = sketch(grid)
    x = examples(lowered)
    made = make_artifact(
        ExportRequest(lowered, x, reference(lowered, x), True, Origin("r", 1)), OnnxExporter(), tmp_path / "out", np.sum
    )
    assert sessions == ["model.onnx"]
    assert_answers_as_when_loaded_again(made, tmp_path / "out", x)


def assert_answers_as_when_loaded_again(made: MadeArtifact, folder: Path, x: np.ndarray) -> None:
    """A session that also wrote its optimised graph gives the bits of one that did not."""
    artifact, fresh = load_artifact(folder)
    assert made.runner is not None
    assert np.array_equal(made.runner.run(x), fresh.run(x))
    assert np.array_equal(made.outputs_BK, fresh.run(x))
    assert np.array_equal(artifact.golden.outputs, fresh.integers(artifact.golden.inputs))
