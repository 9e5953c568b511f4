"""Weights that only make sense rounded: in float they are far worse than as integers.

Training sees rounded weights alone. At 2 or 3 bits a deep net comes to rely on the rounding, and the same weights
without it are another function; whoever took them for the model would have a bad one.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import hypot

from fl_core.findings import Finding
from fl_server.watch.accuracy import ACCURACIES
from fl_server.watch.curve import sampling_error
from fl_server.watch.state import RunState
from fl_server.watch.words import as_metric

LEAST_GAP = 0.03
"""Smallest gap of an accuracy that is told; it must be beyond two standard errors of the test set too."""
LEAST_SHARE = 0.1
"""Smallest gap of any other metric that is told, as a share of the metric in float."""
ROUNDED = ("accuracy_int8", "accuracy_fake_quant")


def find_rounded_only(state: RunState) -> Iterable[Finding]:
    """That the float weights of the newest measured round are far below their rounded form."""
    record = next((each.evaluation for each in reversed(state.finished_rounds()) if each.evaluation), None) or {}
    form = next((form for form in ROUNDED if record.get(form) is not None), None)
    if form is None or record.get("accuracy_float") is None:
        return
    plain, rounded = float(record["accuracy_float"]), float(record[form])
    if rounded - plain > _bound(state.metric, plain, rounded, int(record.get("examples") or 0)):
        show = as_metric(state.metric)
        yield Finding(
            "rounding",
            f"the same weights reach {show(plain)} in float and {show(rounded)} as {ACCURACIES[form]}: they were "
            "trained on their grid and only make sense rounded; use the artefact and not the float weights",
        )


def _bound(metric: str, plain: float, rounded: float, examples: int) -> float:
    if metric != "accuracy":
        return LEAST_SHARE * abs(plain)
    return max(LEAST_GAP, 2 * hypot(sampling_error(plain, examples), sampling_error(rounded, examples)))
