"""After a round: the global model as integer artefacts, each proven in its runtime or vetoed.

lower -> export -> load in the real runtime -> parity -> integer kernels -> artifact.json. A vetoed artefact costs
nothing else: the round stands, and the last good artefact stays where it is.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from fl_core.errors import ExportError, ModelError
from fl_core.export.artifact import Artifact, Origin, load_artifact
from fl_core.export.base import Runner
from fl_core.export.make import make_artifact, synthetic_inputs
from fl_core.export.parity import ParityLimits
from fl_core.export.registry import build_exporter
from fl_core.quant.lower import lower
from fl_core.quant.lowered import Lowered
from fl_core.rng import generator
from fl_core.runlog import RunLog
from fl_core.types import FloatArray
from fl_server.evaluate import TEST
from fl_server.setup import Setup

SYNTHETIC_EXAMPLES = 256


@dataclass(frozen=True)
class Published:
    """A good artefact of this round, loaded in its runtime; ``test_output`` is None without a server test set."""

    artifact: Artifact
    runner: Runner
    test_output: FloatArray | None


def publish(setup: Setup, run_dir: Path, round: int, epsilon: float | None, log: RunLog) -> tuple[Published, ...]:
    """Export the weights that ``setup.model`` holds, in every format of the config, if this round exports.

    Parity is measured on the server's test set, else on public examples, else on synthetic ones.
    """
    export, run = setup.config.export, setup.config.run
    if round % export.every and round != run.rounds:
        return ()
    origin = Origin(run.name, round, epsilon, setup.labels, {"input_range": list(setup.spec.facts.input_range)})
    published = []
    for name in export.formats:
        folder = run_dir / "rounds" / f"{round:04d}" / name
        try:
            published.append(_publish_one(setup, name, folder, origin))
        except (ExportError, ModelError) as error:
            log.append("artifact_vetoed", round, format=name, reason=str(error))
            continue
        artifact = published[-1].artifact
        log.append(
            "artifact_published",
            round,
            format=name,
            path=str((folder / artifact.path).relative_to(run_dir)),
            bytes=artifact.bytes,
            bytes_float=artifact.bytes_float,
            parity=asdict(artifact.parity),
            kernels=asdict(artifact.kernels),
        )
    return tuple(published)


def _publish_one(setup: Setup, name: str, folder: Path, origin: Origin) -> Published:
    lowered = lower(setup.model)
    parity_name, x, golden = _parity_inputs(setup, lowered)
    reference = setup.cache.outputs(parity_name, x, fake_quant=True)
    test, task = setup.test, setup.task
    make_artifact(
        lowered,
        build_exporter(name),
        folder,
        x,
        reference,
        ParityLimits.for_model(lowered, classes=bool(setup.labels)),
        origin,
        golden_BX=golden,
        score=None if test is None else lambda got: float(task.example_score(got, test.y).mean()),
    )
    artifact, runner = load_artifact(folder)
    return Published(artifact, runner, None if test is None else runner.run(test.x))


def _parity_inputs(setup: Setup, lowered: Lowered) -> tuple[str, FloatArray, FloatArray | None]:
    """Examples to compare on, and those that may be stored as golden inputs: public ones, else synthetic."""
    public = None if setup.public is None else setup.public.x
    if setup.test is not None:
        return TEST, setup.test.x, public
    if public is not None:
        return "public", public, public
    made = synthetic_inputs(lowered, SYNTHETIC_EXAMPLES, generator("parity", setup.config.run.seed))
    return "synthetic", made, None
