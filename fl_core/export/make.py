"""Makes an artefact and lets it out only when it is proven: export, load, parity, integer kernels, golden outputs.

The server does this after a round and a client with its own weights, with the same code. A folder appears whole or not
at all; what fails the gate goes to a folder beside it, ``<name>.vetoed``, which no reader accepts, and an artefact that
already stands in its place stays.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fl_core.errors import ExportError
from fl_core.export.artifact import VETO_FILE, Artifact, Golden, Origin, sha256_of, write_artifact
from fl_core.export.base import Exporter, weighted_layers
from fl_core.export.parity import ParityLimits, check_parity
from fl_core.files import write_json
from fl_core.quant.lowered import Lowered
from fl_core.types import FloatArray

GOLDEN_EXAMPLES = 8
GOLDEN_BYTES = 1 << 20
"""Golden inputs stand inside artifact.json: large inputs get fewer of them, and at least one."""
VETOED = ".vetoed"


def make_artifact(
    lowered: Lowered,
    exporter: Exporter,
    out: Path,
    x_BX: FloatArray,
    reference_BK: FloatArray,
    limits: ParityLimits,
    origin: Origin,
    golden_BX: FloatArray | None = None,
    score: Callable[[FloatArray], float] | None = None,
) -> Artifact:
    """Exports a model into the folder ``out`` and proves it.

    Args:
        x_BX: examples [B, *input_shape] on which parity is measured; none of them is stored.
        reference_BK: outputs of the fake-quant forward for ``x_BX``.
        limits: the gate.
        origin: what goes into the record and the file's own metadata.
        golden_BX: inputs to store, public ones only; synthetic ones when None.
        score: gives the accuracy from the artefact's real outputs for ``x_BX``; None leaves it out.

    Raises:
        ExportError: the model cannot be exported, or a layer does not run on integers.
        ParityError: the artefact does not compute what was trained. Either way it is vetoed.
    """
    staging = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        artifact = _prove(lowered, exporter, staging, x_BX, reference_BK, limits, origin, golden_BX, score)
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
    return artifact


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


def _prove(
    lowered: Lowered,
    exporter: Exporter,
    folder: Path,
    x_BX: FloatArray,
    reference_BK: FloatArray,
    limits: ParityLimits,
    origin: Origin,
    golden_BX: FloatArray | None,
    score: Callable[[FloatArray], float] | None,
) -> Artifact:
    path = exporter.export(lowered, folder, _metadata(origin))
    runner = exporter.load(path)
    outputs_BK = runner.run(x_BX)
    parity = check_parity(reference_BK, outputs_BK, runner.output_scale, limits)
    kernels = exporter.integer_kernels(path)
    kernels.check(weighted_layers(lowered))
    golden_BX = _golden_inputs(lowered, golden_BX)
    twin = exporter.export_float(lowered, folder)
    bytes_float = twin.stat().st_size
    twin.unlink()
    artifact = Artifact(
        format=exporter.name,
        path=path.name,
        bytes=path.stat().st_size,
        bytes_float=bytes_float,
        sha256=sha256_of(path),
        origin=origin,
        input_shape=lowered.input_shape,
        input_range=input_range(lowered),
        output_scale=runner.output_scale,
        parity=parity,
        kernels=kernels,
        golden=Golden(golden_BX, runner.integers(golden_BX)),
        accuracy=None if score is None else score(outputs_BK),
    )
    write_artifact(artifact, folder)
    return artifact


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
