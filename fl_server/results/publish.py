"""After a round: the global model as integer artefacts, each proven in its runtime or vetoed.

In a fleet of several widths every width has its own: the same weights on another grid, with a gate of its own.

lower -> export -> load in the real runtime -> parity -> integer kernels -> artifact.json. A vetoed artefact costs
nothing else: the round stands, and the last good artefact stays where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fl_core.errors import ExportError, ModelError
from fl_core.export.artifact import Artifact, Origin
from fl_core.export.base import Runner
from fl_core.export.make import ExportRequest, make_artifact, synthetic_inputs
from fl_core.export.registry import FormatSection, build_exporter, format_name
from fl_core.models.weights import load_tensors, trainable_tensors
from fl_core.quant.lower import lower
from fl_core.quant.lowered import Lowered
from fl_core.rng import generator
from fl_core.runlog import RunLog
from fl_core.types import FloatArray
from fl_server.plan.setup import Setup
from fl_server.plan.user_privacy import user_epsilon
from fl_server.results.evaluate import TEST

SYNTHETIC_EXAMPLES = 256


@dataclass(frozen=True)
class Published:
    """A good artefact of this round, loaded in its runtime where that is here.

    ``test_output`` is None without a server test set, and where ``runner`` is.
    """

    weight_bits: int
    artifact: Artifact
    runner: Runner | None
    test_output: FloatArray | None


def publish(setup: Setup, run_dir: Path, round: int, epsilon: float | None, log: RunLog) -> tuple[Published, ...]:
    """Export the weights that ``setup.model`` holds, in every format and at every width, if this round exports.

    Parity is measured on the server's test set, else on public examples, else on synthetic ones.
    """
    export, run = setup.config.export, setup.config.run
    if round % export.every and round != run.rounds:
        return ()
    preprocessing = {"input_range": list(setup.spec.facts.input_range)}
    origin = Origin(run.name, round, epsilon, setup.labels, preprocessing, user_epsilon=user_epsilon(setup))
    published = []
    for bits, own in with_weights(setup).items():
        for format in export.formats:
            name = format_name(format)
            folder = run_dir / "rounds" / f"{round:04d}" / folder_name(setup, name, bits)
            try:
                published.append(_publish_one(own, format, folder, replace(origin, weight_bits=bits)))
            except (ExportError, ModelError) as error:
                log.append("artifact_vetoed", round, format=name, weight_bits=bits, reason=str(error))
                continue
            _say_published(published[-1], folder, run_dir, log)
    return tuple(published)


def with_weights(setup: Setup) -> Mapping[int, Setup]:
    """The setups of all widths, each with the weights that ``setup.model`` holds."""
    weights = trainable_tensors(setup.model) if len(setup.widths) > 1 else {}
    for own in setup.widths.values():
        if own is not setup:
            load_tensors(own.model, weights)
    return setup.widths


def folder_name(setup: Setup, format: str, bits: int) -> str:
    """``onnx`` for the width of ``quant.weight_bits``, ``onnx-4bit`` for another."""
    return format if bits == setup.spec.quant.weight_bits else f"{format}-{bits}bit"


def _say_published(published: Published, folder: Path, run_dir: Path, log: RunLog) -> None:
    artifact = published.artifact
    log.append(
        "artifact_published",
        artifact.origin.round,
        format=artifact.format,
        weight_bits=published.weight_bits,
        path=str((folder / artifact.path).relative_to(run_dir)),
        bytes=artifact.bytes,
        bytes_float=artifact.bytes_float,
        parity=None if artifact.parity is None else asdict(artifact.parity),
        kernels=None if artifact.kernels is None else asdict(artifact.kernels),
    )


def _publish_one(setup: Setup, format: str | FormatSection, folder: Path, origin: Origin) -> Published:
    lowered = lower(setup.model)
    parity_name, x, golden = _parity_inputs(setup, lowered)
    reference = setup.cache.outputs(parity_name, x, fake_quant=True)
    test, task = setup.test, setup.task
    request = ExportRequest(lowered, x, reference, bool(setup.labels), origin, golden)
    score = None if test is None else lambda got: float(task.example_score(got, test.y).mean())
    made = make_artifact(request, build_exporter(format), folder, score)
    output = None if test is None else made.outputs_BK
    return Published(setup.spec.quant.weight_bits, made.artifact, made.runner, output)


def _parity_inputs(setup: Setup, lowered: Lowered) -> tuple[str, FloatArray, FloatArray | None]:
    """Examples to compare on, and those that may be stored as golden inputs: public ones, else synthetic."""
    public = None if setup.public is None else setup.public.x
    if setup.test is not None:
        return TEST, setup.test.x, public
    if public is not None:
        return "public", public, public
    made = synthetic_inputs(lowered, SYNTHETIC_EXAMPLES, generator("parity", setup.config.run.seed))
    return "synthetic", made, None
