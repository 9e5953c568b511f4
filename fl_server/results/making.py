"""One artefact from one request: what ``fl_core.export.make`` is asked for, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fl_core.export import make
from fl_core.export.artifact import Artifact, Origin, load_artifact
from fl_core.export.base import Exporter, Runner
from fl_core.export.parity import ParityLimits
from fl_core.quant.lowered import Lowered
from fl_core.types import FloatArray


@dataclass(frozen=True)
class ExportRequest:
    """What all formats of a width have in common: the model, the examples to prove it on, and where it comes from."""

    lowered: Lowered
    inputs_BX: FloatArray
    """Examples [B, *input_shape] on which parity is measured; none of them is stored."""
    reference_BK: FloatArray
    """Outputs of the fake-quant forward for ``inputs_BX``."""
    limits: ParityLimits
    origin: Origin
    golden_BX: FloatArray | None = None
    """Inputs to store, public ones only; synthetic ones when None."""


@dataclass(frozen=True)
class MadeArtifact:
    """A proven artefact, loaded in its runtime."""

    artifact: Artifact
    runner: Runner
    outputs_BK: FloatArray
    """What it gives for the request's inputs."""


def make_artifact(
    request: ExportRequest, exporter: Exporter, out: Path, score: Callable[[FloatArray], float] | None = None
) -> MadeArtifact:
    """Export a model into the folder ``out`` and prove it; ``score`` gives the accuracy from its real outputs.

    Raises:
        ExportError: the model cannot be exported, or a layer does not run on integers.
        ParityError: the artefact does not compute what was trained. Either way it is vetoed.
    """
    make.make_artifact(
        request.lowered, exporter, out, request.inputs_BX, request.reference_BK, request.limits, request.origin,
        golden_BX=request.golden_BX, score=score,
    )  # fmt: skip
    artifact, runner = load_artifact(out)
    return MadeArtifact(artifact, runner, runner.run(request.inputs_BX))
