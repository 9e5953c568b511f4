"""After a round: the global model as integer artefacts, each proven in its runtime or vetoed.

In a fleet of several widths every width has its own: the same weights on another grid, with a gate of its own.

lower -> export -> load in the real runtime -> parity -> integer kernels -> artifact.json. A vetoed artefact costs
nothing else: the round stands, and the last good artefact stays where it is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from fl_core.config import Config
from fl_core.data.federation import Examples
from fl_core.errors import ExportError, ModelError
from fl_core.export.artifact import Origin
from fl_core.export.make import ExportRequest, make_artifact, synthetic_inputs
from fl_core.export.registry import build_exporter
from fl_core.quant.lowered import Lowered
from fl_core.rng import generator
from fl_core.runlog import EventBatch, RunLog
from fl_core.tasks.scores import mean_score
from fl_core.types import FloatArray
from fl_server.plan.setup import Setup
from fl_server.results.evaluate import TEST, evaluate_widths, scoring
from fl_server.results.model import Model, Nets
from fl_server.results.observer import Observer, Published, RoundView

SYNTHETIC_EXAMPLES = 256


@dataclass(frozen=True)
class Publication:
    """A round whose artefacts are to be made, with all that they say of it."""

    setup: Setup
    model: Model
    round: int
    epsilon: float | None = None
    """Privacy spent on the weights, the largest over all clients so far; None where none holds."""
    user_epsilon: float | None = None
    """Privacy spent for each whole client, by the server's noise; None without that guarantee."""


@dataclass(frozen=True)
class Vetoed:
    """An artefact that was made and is not let out."""

    weight_bits: int
    format: str
    reason: str


def exports(config: Config, round: int) -> bool:
    """Whether artefacts are made of a round: after every so many, and of the last."""
    due = round % config.export.every == 0 or round == config.run.rounds
    return due and bool(config.export.formats)


def publish_round(publication: Publication, nets: Nets, log: RunLog, observe: Observer | None) -> None:
    """Make the artefacts of a round below the folder of ``log``, and write down what came of it, all at once."""
    started = time.monotonic()
    log.check_own()
    setup, model, round = publication.setup, publication.model, publication.round
    events = EventBatch()
    published: list[Published] = []
    for made in make_artifacts(publication, nets, log.folder):
        if isinstance(made, Published):
            published.append(made)
            _say_published(made, setup, events)
        else:
            events.append("artifact_vetoed", round, **asdict(made))
    if observe is not None:
        observe(RoundView(setup, round, model, nets, tuple(published), events))
    # The first format of a width that was run here speaks for it.
    int8 = {each.weight_bits: each.test_output for each in reversed(published) if each.test_output is not None}
    evaluation = evaluate_widths(setup, nets, model, round, int8)
    events.append("round_published", round, evaluation=evaluation, seconds=time.monotonic() - started)
    log.append_all(events)


def make_artifacts(publication: Publication, nets: Nets, run_dir: Path) -> Iterator[Published | Vetoed]:
    """Export a model at every width and in every format, one after the other.

    Parity is measured on the server's test set, else on public examples, else on synthetic ones.
    """
    setup = publication.setup
    formats = [build_exporter(each) for each in setup.config.export.formats]
    for bits in setup.spec.quant.widths:
        try:
            request = _request(publication, nets, bits)
        except ModelError as error:
            yield from (Vetoed(bits, exporter.name, str(error)) for exporter in formats)
            continue
        test = setup.data.test
        for exporter in formats:
            folder = folder_of(setup, run_dir, publication.round, exporter.name, bits)
            score = None if test is None else partial(_score, setup, test, publication.round)
            try:
                made = make_artifact(request, exporter, folder, score)
            except (ExportError, ModelError) as error:
                yield Vetoed(bits, exporter.name, str(error))
            else:
                yield Published(bits, made.artifact, made.runner, None if test is None else made.outputs_BK)


def folder_of(setup: Setup, run_dir: Path, round: int, format: str, bits: int) -> Path:
    """``rounds/0001/onnx`` for the width of ``quant.weight_bits``, ``rounds/0001/onnx-4bit`` for another."""
    name = format if bits == setup.spec.quant.weight_bits else f"{format}-{bits}bit"
    return run_dir / "rounds" / f"{round:04d}" / name


def _request(publication: Publication, nets: Nets, bits: int) -> ExportRequest:
    """What all formats of a width have in common."""
    setup, model = publication.setup, publication.model
    lowered = nets.lowered(model, bits)
    name, x_BX = _parity_inputs(setup, lowered)
    public = setup.data.public
    origin = Origin(
        run=setup.config.run.name,
        round=publication.round,
        epsilon=publication.epsilon,
        labels=setup.data.labels,
        preprocessing={"input_range": list(setup.spec.facts.input_range)},
        weight_bits=bits,
        user_epsilon=publication.user_epsilon,
    )
    return ExportRequest(
        lowered=lowered,
        inputs_BX=x_BX,
        reference_BK=nets.outputs(model, name, x_BX, fake_quant=True, bits=bits),
        classes=bool(setup.data.labels),
        origin=origin,
        golden_BX=None if public is None else public.x,
    )


def _parity_inputs(setup: Setup, lowered: Lowered) -> tuple[str, FloatArray]:
    """Examples to compare on, and the name that they go by."""
    if setup.data.test is not None:
        return TEST, setup.data.test.x
    if setup.data.public is not None:
        return "public", setup.data.public.x
    return "synthetic", synthetic_inputs(lowered, SYNTHETIC_EXAMPLES, generator("parity", setup.config.run.seed))


def _score(setup: Setup, test: Examples, round: int, output_BK: FloatArray) -> float:
    return mean_score(setup.task, scoring(setup, round), output_BK, test.y)


def _say_published(published: Published, setup: Setup, events: EventBatch) -> None:
    artifact = published.artifact
    round, bits = artifact.origin.round, published.weight_bits
    events.append(
        "artifact_published",
        round,
        format=artifact.format,
        weight_bits=bits,
        path=(folder_of(setup, Path(), round, artifact.format, bits) / artifact.path).as_posix(),
        bytes=artifact.bytes,
        bytes_float=artifact.bytes_float,
        parity=None if artifact.parity is None else asdict(artifact.parity),
        kernels=None if artifact.kernels is None else asdict(artifact.kernels),
    )
