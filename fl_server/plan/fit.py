"""Do data, task and model fit each other: inputs, outputs and targets, looked at once before a run."""

from __future__ import annotations

import math

import numpy as np
import torch

from fl_core.config import Config
from fl_core.data.federation import PUBLIC, Federation, by_problem
from fl_core.errors import ConfigError, DataError, ModelError
from fl_core.models.rebuilt import difference
from fl_core.models.weights import trainable_tensors
from fl_core.own_code import own_code
from fl_core.quant.faithful import checked_outputs
from fl_core.spec import DataFacts
from fl_core.tasks.contract import check_task
from fl_core.tasks.scores import read_only
from fl_core.types import Array
from fl_server.plan.inspected import Inspected

TRIED = 3
"""Examples with which a model and its task are tried; with fewer than two a wrong axis may broadcast unseen."""


def data_facts(config: Config, federation: Federation) -> DataFacts:
    """What a model must know of the data of a federation.

    Raises:
        ConfigError: the number of outputs is unknown: the data names no labels and the config says none.
    """
    return DataFacts(federation.input_shape, _count_outputs(config, federation), federation.input_range)


def check_targets(seen: Inspected) -> None:
    """Refuse targets that the task cannot learn; public examples calibrate only, so theirs may be anything.

    Raises:
        DataError: targets do not have the form that the task needs; every owner of such is named.
        ConfigError: the task's own check fails.
    """
    found: list[tuple[str, str]] = []
    for owner, part in seen.federation.parts():
        if owner == PUBLIC:
            continue
        try:
            with own_code(f"{seen.spec.task_named}: check_targets of {owner}", ConfigError):
                seen.task.check_targets(owner, read_only(part.y), seen.spec.facts.outputs)
        except DataError as error:
            found += [(owner, problem.removeprefix(f"{owner}: ")) for problem in error.problems]
    if found:
        raise DataError(by_problem(found))


def check_net(seen: Inspected) -> None:
    """Refuse a model that is not what its author wrote once it is prepared, or that its task cannot train or score.

    Raises:
        ModelError: the model cannot be built or read, has nothing to train, is not decided by the run's seed, computes
            something else when it is prepared, or has outputs of other axes than the task needs.
        ConfigError: the task breaks its contract.
    """
    facts = seen.spec.facts
    x_BX = np.random.default_rng(0).uniform(*facts.input_range, (TRIED, *facts.input_shape)).astype(np.float32)
    target_B = _targets(seen, x_BX)
    qat = seen.spec.quantize(seen.traced)  # refuses ranges and bits that name no layer
    if not trainable_tensors(qat):
        raise ModelError("model: expected at least one parameter with requires_grad, which is trained, got none")
    _check_again(seen)
    output_BX = checked_outputs(seen.traced, torch.from_numpy(x_BX), facts.input_range).numpy()
    _check_axes(output_BX.shape[1:], facts.outputs, None if target_B is None else target_B.shape[1:])
    if target_B is not None:
        check_task(seen.task, seen.spec.task_named, output_BX, target_B)


def _check_again(seen: Inspected) -> None:
    """Refuse a factory that gives another model at another call: server and clients call it each for themselves."""
    factory = seen.config.model.factory
    if factory is None:  # ours are tested
        return
    other = difference(seen.traced.module, seen.spec.float_model(seen.config.run.seed))
    if other:
        raise ModelError(
            f"model.factory {factory}: expected the same model at each call, for server and clients call it each for "
            f"themselves, got another: {other}; draw from torch's global generator, which has the run's seed, or from "
            "one that the factory makes with a constant seed"
        )


def _targets(seen: Inspected, x_BX: Array) -> Array | None:
    """A target for each of ``x_BX``: of examples at hand, else made up; None where the form is unknown."""
    held = seen.federation.test or next((client.train for client in seen.federation.clients.values()), None)
    if held is None or not len(held):
        return seen.task.neutral_targets(x_BX, seen.spec.facts.outputs)
    return held.y[np.arange(len(x_BX)) % len(held)]


def _check_axes(given: tuple[int, ...], outputs: int, target: tuple[int, ...] | None) -> None:
    """Refuse outputs [B, *given] that are neither [B, outputs] nor have the axes of the targets."""
    if given == (outputs,) or (target and given == target):
        return
    shown = f"[B, {', '.join(map(str, given))}]"
    way_on = "; end with Flatten" if math.prod(given) == outputs else ""
    raise ModelError(f"model: expected outputs [B, {outputs}], got {shown}{way_on}")


def _count_outputs(config: Config, federation: Federation) -> int:
    """Values that the model gives for an example: one a class, or what the targets show."""
    if federation.labels:
        return len(federation.labels)
    stated = config.model.args.get("outputs")
    if stated is not None:
        return int(stated)
    held = [part for part in (federation.test, federation.public) if part is not None]
    sample = held[0] if held else next(iter(federation.clients.values())).train
    if sample.y.dtype.kind in "iu":
        raise ConfigError("model.args.outputs: expected the number of classes, for the data names no labels")
    return int(sample.y[0].size)
