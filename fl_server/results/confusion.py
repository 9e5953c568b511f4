"""Which classes a model takes for which: counts of true against answered class.

Counted once a run, of its last round, on outputs that are there already. Of the server's own test set the counts are
public as its accuracy is; of clients' held-out examples only a simulator has them.
"""

from __future__ import annotations

import numpy as np

from fl_core.data.federation import Examples
from fl_core.tasks.base import Task
from fl_core.tasks.classification import Classification
from fl_core.types import FloatArray

MOST_CLASSES = 30
"""With more classes the table is none that anybody reads."""


def confusion_of(task: Task, output_BK: FloatArray, examples: Examples, classes: int) -> list[list[int]] | None:
    """Counts [true class][answered class] for outputs [B, classes]; None for another task, or for very many classes."""
    if not isinstance(task, Classification) or not 2 <= classes <= MOST_CLASSES:
        return None
    answered_B = output_BK.reshape(len(examples), -1).argmax(axis=1)
    pairs_B = examples.y.astype(np.int64) * classes + answered_B
    counts: list[list[int]] = np.bincount(pairs_B, minlength=classes * classes).reshape(classes, classes).tolist()
    return counts
