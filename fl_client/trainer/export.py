"""The client's own, locally trained model as an artefact on its side; it never travels."""

from __future__ import annotations

import logging
from pathlib import Path

from fl_client.trainer.job import Outcome, TrainJob
from fl_core.data.federation import Examples
from fl_core.errors import ExportError
from fl_core.export.artifact import Origin
from fl_core.export.make import ExportRequest, make_artifact
from fl_core.export.registry import build_exporter, format_name
from fl_core.models.weights import load_tensors
from fl_core.quant.forward import outputs
from fl_core.quant.lower import lower
from fl_core.tasks.scores import mean_score

logger = logging.getLogger(__name__)


def export_own(job: TrainJob, outcome: Outcome, examples: Examples, folder: Path) -> None:
    """Export the weights that the client uses itself into ``folder``, a subfolder a format; a vetoed one is logged.

    ``examples`` are the client's own, on which parity and accuracy are measured; none of them is stored.
    """
    plan, spec, model = job.plan, job.spec, job.net.whole
    load_tensors(model, outcome.own_weights)
    reference_BK = outputs(model, examples.x, fake_quant=True)
    origin = Origin(plan.run, plan.round, job.epsilon, weight_bits=spec.quant.weight_bits)
    request = ExportRequest(lower(model), examples.x, reference_BK, spec.task.name == "classification", origin)
    for format in spec.export.formats:
        try:
            make_artifact(
                request,
                build_exporter(format),
                folder / format_name(format),
                lambda got: mean_score(job.task, spec.task_named, got, examples.y),
            )
        except ExportError as error:
            logger.warning("client %s: own artefact vetoed: %s", plan.client_id, error)
