"""How good is the global model: as float, as fake-quant, and as the artefact in its own runtime."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fl_core.data.federation import Examples
from fl_core.errors import WireError
from fl_core.quant.forward import FrozenCache
from fl_core.tasks.base import Task
from fl_core.types import Array

TEST = "server test set"
WIDTH_FIGURES = ("examples", "accuracy_fake_quant", "accuracy_int8")
"""Of the record of an evaluation, what depends on the width."""


def mean_score(task: Task, output: Array, examples: Examples) -> float:
    """The task's metric: higher is better."""
    return float(np.mean(task.example_score(output, examples.y)))


def evaluate(
    task: Task,
    cache: FrozenCache,
    test: Examples | None,
    groups: Mapping[str, Array],
    int8_output: Array | None,
) -> dict[str, Any] | None:
    """The record ``evaluation`` of a round; None where there is no test set to look at."""
    if test is None:
        return None
    fake_output = cache.outputs(TEST, test.x, fake_quant=True)
    best = fake_output if int8_output is None else int8_output
    scores = task.example_score(best, test.y)
    return {
        "examples": len(test),
        "accuracy_float": mean_score(task, cache.outputs(TEST, test.x, fake_quant=False), test),
        "accuracy_fake_quant": mean_score(task, fake_output, test),
        "accuracy_int8": None if int8_output is None else float(np.mean(scores)),
        "groups": {name: float(np.mean(scores[rows])) for name, rows in groups.items()},
    }


def evaluate_width(
    task: Task, cache: FrozenCache, test: Examples | None, int8_output: Array | None
) -> dict[str, Any] | None:
    """What is said of one width of a fleet of several: as fake-quant, and as the artefact in its own runtime."""
    found = evaluate(task, cache, test, {}, int8_output)
    return found and {name: found[name] for name in WIDTH_FIGURES}


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
