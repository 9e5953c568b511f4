"""Do data, task and model fit each other: inputs, outputs and targets, looked at once before a run."""

from __future__ import annotations

import numpy as np

from fl_core.config import Config
from fl_core.data.federation import Federation
from fl_core.errors import ConfigError, DataError, ModelError
from fl_core.quant.forward import outputs
from fl_core.spec import DataFacts, TrainingSpec
from fl_core.tasks.base import Task


def data_facts(config: Config, federation: Federation) -> DataFacts:
    """What a model must know of the data of a federation.

    Raises:
        ConfigError: the number of outputs is unknown: the data names no labels and the config says none.
    """
    return DataFacts(federation.input_shape, _count_outputs(config, federation), federation.input_range)


def check_targets(task: Task, federation: Federation, outputs: int) -> None:
    """Refuse targets that the task cannot learn; public examples calibrate only, so theirs may be anything.

    Raises:
        DataError: targets do not have the form that the task needs; every owner of such is named.
    """
    parts = {f"client {name}, train": client.train for name, client in federation.clients.items()}
    parts |= {f"client {name}, test": client.test for name, client in federation.clients.items() if client.test}
    parts |= {"server test set": federation.test} if federation.test else {}
    problems: list[str] = []
    for owner, part in parts.items():
        try:
            task.check_targets(owner, part.y, outputs)
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)


def check_outputs(spec: TrainingSpec, seed: int) -> None:
    """Refuse a model whose outputs are not as many as the data asks for.

    Raises:
        ModelError: they are not, or the model cannot be built.
    """
    example = np.zeros((1, *spec.facts.input_shape), np.float32)
    given = outputs(spec.build_model(seed), example, fake_quant=False).shape[1:]
    if int(np.prod(given)) != spec.facts.outputs:
        raise ModelError(f"model: expected {spec.facts.outputs} outputs an example, got shape {given}")


def _count_outputs(config: Config, federation: Federation) -> int:
    """Values that the model gives for an example: one a class, or what the targets show."""
    if federation.labels:
        return len(federation.labels)
    stated = config.model.args.get("outputs")
    if stated is not None:
        return int(stated)
    sample = federation.test or federation.public or next(iter(federation.clients.values())).train
    if sample.y.dtype.kind in "iu":
        raise ConfigError("model.args.outputs: expected the number of classes, for the data names no labels")
    return int(sample.y[0].size)
