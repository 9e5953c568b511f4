"""Makes an artefact and lets it out only when it is proven: export, load, parity, integer kernels, golden outputs.

What its own device alone can run is let out unproven, and its record says so.
The server does this after a round and a client with its own weights, with the same code. A folder appears whole or not
at all; what fails the gate goes to a folder beside it, ``<name>.vetoed``, which no reader accepts, and an artefact that
already stands in its place stays.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fl_core.errors import ExportError
from fl_core.export.artifact import VETO_FILE, Artifact, ArtifactFile, Golden, Origin, read_artifact, write_artifact
from fl_core.export.base import Exporter, KernelProof, Runner
from fl_core.export.integer_runner import IntegerRunner
from fl_core.export.parity import Parity, check_parity
from fl_core.files import write_json
from fl_core.quant.lowered import Lowered, weighted_layers
from fl_core.types import FloatArray

GOLDEN_EXAMPLES = 8
GOLDEN_BYTES = 1 << 20
"""Golden inputs stand inside artifact.json: large inputs get fewer of them, and at least one."""
VETOED = ".vetoed"


@dataclass(frozen=True)
class ExportRequest:
    """What is exported and compared: the same for every format of one width, so lowered and run through once."""

    lowered: Lowered
    inputs_BX: FloatArray
    """Examples [B, *input_shape] on which parity is measured; none of them is stored."""
    reference_BK: FloatArray
    """Outputs of the fake-quant forward for ``inputs_BX``."""
    classes: bool
    """Whether the largest output names a class; then the gate asks for agreement on it as well."""
    origin: Origin
    """What goes into the record and the files' own metadata."""
    golden_BX: FloatArray | None = None
    """Inputs to store, public ones only; synthetic ones when None."""


@dataclass(frozen=True)
class MadeArtifact:
    """A published artefact, and what is left over from proving it: nobody needs to load it again."""

    artifact: Artifact
    runner: Runner | None
    """The one session of its runtime; None where only its own device can prove it."""
    outputs_BK: FloatArray | None
    """Its real outputs for ``inputs_BX``; None where ``runner`` is."""


def make_artifact(
    request: ExportRequest,
    exporter: Exporter,
    out: Path,
    score: Callable[[FloatArray], float] | None = None,
) -> MadeArtifact:
    """Exports a model into the folder ``out`` and proves it, or says in the record that only its device can.

    Args:
        request: the model, and what its artefact must compute.
        exporter: the format; its own limits are the gate.
        out: folder of the artefact; replaced as a whole.
        score: gives the accuracy from the artefact's real outputs for ``inputs_BX``; None leaves it out.

    Raises:
        ExportError: the model cannot be exported, or a layer does not run on integers.
        ParityError: the artefact does not compute what was trained. Either way it is vetoed.
    """
    origin = request.origin
    staging = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        made = _export_and_prove(request, exporter, staging, score)
    except ExportError as error:
        reason = {"reason": str(error), "format": exporter.name, "run": origin.run, "round": origin.round}
        write_json(staging / VETO_FILE, reason)
        _put(staging, out.with_name(out.name + VETOED))
        raise
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    _put(staging, out)
    shutil.rmtree(out.with_name(out.name + VETOED), ignore_errors=True)
    return made


def synthetic_inputs(lowered: Lowered, examples: int, rng: np.random.Generator) -> FloatArray:
    """Float32 examples [examples, *input_shape], uniform over what the input quantizer keeps: no data are needed."""
    low, high = input_range(lowered)
    x_BX: FloatArray = rng.uniform(low, high, (examples, *lowered.input_shape)).astype(np.float32)
    return x_BX


def input_range(lowered: Lowered) -> tuple[float, float]:
    """Smallest and largest real input that is not clipped."""
    params = lowered.tensors[lowered.input]
    return (
        params.scale * (params.qmin - params.zero_point),
        params.scale * (params.qmax - params.zero_point),
    )


def _export_and_prove(
    request: ExportRequest, exporter: Exporter, folder: Path, score: Callable[[FloatArray], float] | None
) -> MadeArtifact:
    lowered = request.lowered
    paths = exporter.export(lowered, folder, _metadata(request.origin))
    proven = _prove(request, exporter, paths[0]) if exporter.proof == "here" else None
    runner = proven.runner if proven else IntegerRunner(lowered)
    golden_BX = _golden_inputs(lowered, request.golden_BX)
    artifact = Artifact(
        format=exporter.name,
        path=paths[0].name,
        files={path.name: ArtifactFile.of(path) for path in paths},
        bytes_float=_bytes_of_float_twin(exporter, lowered, folder),
        origin=request.origin,
        input_shape=lowered.input_shape,
        input_range=input_range(lowered),
        output_scale=runner.output_scale,
        proof=exporter.proof,
        parity=proven.parity if proven else None,
        kernels=proven.kernels if proven else None,
        golden=Golden(golden_BX, runner.integers(golden_BX)),
        accuracy=score(proven.outputs_BK) if proven and score else None,
    )
    write_artifact(artifact, folder)
    read_artifact(folder)  # what its own reader refuses, a file left behind say, is no artefact
    if proven is None:
        return MadeArtifact(artifact, None, None)
    return MadeArtifact(artifact, proven.runner, proven.outputs_BK)


@dataclass(frozen=True)
class _Proven:
    """What one load of an artefact in its runtime showed."""

    runner: Runner
    outputs_BK: FloatArray
    parity: Parity
    kernels: KernelProof


def _prove(request: ExportRequest, exporter: Exporter, path: Path) -> _Proven:
    runner, kernels = exporter.inspect(path)
    outputs_BK = runner.run(request.inputs_BX)
    limits = exporter.limits(request.lowered, request.classes)
    parity = check_parity(request.reference_BK, outputs_BK, runner.output_scale, limits)
    kernels.check(weighted_layers(request.lowered))
    return _Proven(runner, outputs_BK, parity, kernels)


def _bytes_of_float_twin(exporter: Exporter, lowered: Lowered, folder: Path) -> int:
    """Size of the float32 twin, which is measured and does not stay."""
    paths = exporter.export_float(lowered, folder)
    size = sum(path.stat().st_size for path in paths)
    for path in paths:
        path.unlink()
    return size


def _golden_inputs(lowered: Lowered, golden_BX: FloatArray | None) -> FloatArray:
    size = 4 * int(np.prod(lowered.input_shape))  # bytes of one example
    count = max(1, min(GOLDEN_EXAMPLES, GOLDEN_BYTES // size))
    if golden_BX is None:
        return synthetic_inputs(lowered, count, np.random.default_rng(0))
    return golden_BX[:count].astype(np.float32)


def _metadata(origin: Origin) -> dict[str, str]:
    return {
        "run": origin.run,
        "round": str(origin.round),
        "labels": json.dumps(list(origin.labels)),
        "preprocessing": json.dumps(dict(origin.preprocessing), sort_keys=True),
    }


def _put(staging: Path, target: Path) -> None:
    """Moves a finished folder into place, over an older one if there is one."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    os.replace(staging, target)
    shutil.rmtree(old, ignore_errors=True)
