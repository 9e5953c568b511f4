"""How good is the global model: as float, as fake-quant, and as the artefact in its own runtime."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fl_core.errors import WireError
from fl_core.tasks.scores import example_scores, mean_score
from fl_core.types import FloatArray
from fl_server.plan.setup import Setup
from fl_server.results.confusion import confusion_of
from fl_server.results.model import Model, Nets

TEST = "server test set"
WIDTH_FIGURES = ("examples", "accuracy_fake_quant", "accuracy_int8")
"""Fields in the record of an evaluation that depend on the width."""


def scoring(setup: Setup, round: int) -> str:
    """Who scores and when, as an error of a task's own code begins."""
    return f"{setup.spec.task_named}: round {round}"


def evaluate(
    setup: Setup, nets: Nets, model: Model, round: int, int8_output: FloatArray | None = None
) -> dict[str, Any] | None:
    """The record ``evaluation`` of the model of a round at the width of the config; None where there is no test set.

    ``int8_output`` is what the artefact gave for the test set; groups are scored on it, else on the fake-quant output.
    So are the classes that are taken for each other, after the last round.
    """
    test, task = setup.data.test, setup.task
    if test is None:
        return None
    fake_output = nets.outputs(model, TEST, test.x, fake_quant=True)
    float_output = nets.outputs(model, TEST, test.x, fake_quant=False)
    output = fake_output if int8_output is None else int8_output
    who, last = scoring(setup, round), round == setup.config.run.rounds
    scores = example_scores(task, who, output, test.y)
    confusion = confusion_of(task, output, test, len(setup.data.labels)) if last else None
    return {
        "examples": len(test),
        "accuracy_float": mean_score(task, who, float_output, test.y),
        "accuracy_fake_quant": mean_score(task, who, fake_output, test.y),
        "accuracy_int8": None if int8_output is None else float(np.mean(scores)),
        "groups": {name: float(np.mean(scores[rows])) for name, rows in setup.data.groups.items()},
        **({} if confusion is None else {"confusion": confusion}),
    }


def evaluate_widths(
    setup: Setup, nets: Nets, model: Model, round: int, int8: Mapping[int, FloatArray] | None = None
) -> dict[str, Any] | None:
    """What ``evaluate`` says, with the figures of each width; None where there is no test set to look at.

    ``int8`` has the outputs of the artefacts for the test set, by weight bits. In a fleet of one width ``widths`` is
    empty.
    """
    int8 = int8 or {}
    main = evaluate(setup, nets, model, round, int8.get(model.weight_bits))
    bits_of = setup.spec.quant.widths
    widths = bits_of if len(bits_of) > 1 else ()
    if main is None:
        return None
    who = scoring(setup, round)
    return {**main, "widths": {str(bits): _width(setup, nets, model, bits, who, int8.get(bits)) for bits in widths}}


def _width(
    setup: Setup, nets: Nets, model: Model, bits: int, who: str, int8_output: FloatArray | None
) -> dict[str, Any] | None:
    """One width of a fleet of several: as fake-quant, and as the artefact in its own runtime."""
    test, task = setup.data.test, setup.task
    if test is None:
        return None
    output = nets.outputs(model, TEST, test.x, fake_quant=True, bits=bits)
    return {
        "examples": len(test),
        "accuracy_fake_quant": mean_score(task, who, output, test.y),
        "accuracy_int8": None if int8_output is None else mean_score(task, who, int8_output, test.y),
    }


def read_scores(figures: Mapping[str, Any]) -> tuple[int, float, float]:
    """Examples, float and fake-quant score of one client's evaluation.

    Raises:
        WireError: the figures are no such thing.
    """
    try:
        found = int(figures["examples"]), float(figures["score_float"]), float(figures["score_fake_quant"])
    except (KeyError, TypeError, ValueError) as error:
        raise WireError(f"evaluation: expected examples and scores, got {dict(figures)} ({error})") from None
    if found[0] < 0 or not np.isfinite(found).all():
        raise WireError(f"evaluation: expected finite scores of at least 0 examples, got {dict(figures)}")
    return found


def pool_scores(figures: Iterable[tuple[int, float, float]]) -> dict[str, Any] | None:
    """The record ``evaluation`` over all clients' held-out examples; None where there are none."""
    rows = sorted(row for row in figures if row[0])
    examples = sum(row[0] for row in rows)
    if not examples:
        return None
    return {
        "examples": examples,
        "accuracy_float": math.fsum(row[0] * row[1] for row in rows) / examples,
        "accuracy_fake_quant": math.fsum(row[0] * row[2] for row in rows) / examples,
        "accuracy_int8": None,
        "groups": {},
    }


def pool_widths(figures: Mapping[int, Iterable[tuple[int, float, float]]]) -> dict[str, Any]:
    """By width, what ``pool_scores`` says of the clients of that width on their own held-out examples."""
    pooled = {bits: pool_scores(rows) for bits, rows in figures.items()}
    return {str(bits): {name: found[name] for name in WIDTH_FIGURES} for bits, found in pooled.items() if found}
