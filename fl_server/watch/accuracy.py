"""The three forms in which a model is measured: their fields in a record, their names, and which of them stands for it.

A record of an evaluation has an accuracy for each form, or null where that form was not measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ACCURACIES: Mapping[str, str] = {
    "accuracy_float": "float",
    "accuracy_fake_quant": "fake-quant",
    "accuracy_int8": "int8 in its runtime",
}
"""Each form's field with the name that a reader sees, from the weights alone to what a device runs."""

PREFERRED = tuple(reversed(tuple(ACCURACIES)))
"""The fields by how near their form is to what a device runs: int8, fake-quant, float."""


def best_accuracy(record: Mapping[str, Any] | None) -> float | None:
    """The accuracy that stands for a model: of the preferred form among those that a record has; None without any."""
    known = [record[form] for form in PREFERRED if record.get(form) is not None] if record else []
    return float(known[0]) if known else None
