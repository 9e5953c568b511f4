"""Finds classes that have a label and no example: nobody can learn them, and often a label is one too many."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fl_core.findings import Finding
from fl_core.tasks.classification import Classification
from fl_server.plan.inspected import Inspected

_MOST_NAMED = 5


def classes_without_examples(inspected: Inspected) -> Iterator[Finding]:
    """The classes that no client trains on; nothing where the examples are elsewhere, on devices."""
    federation = inspected.federation
    labels = federation.labels
    if not federation.clients or not labels or not isinstance(inspected.task, Classification):
        return
    seen = np.zeros(len(labels), bool)
    for client in federation.clients.values():
        seen[client.train.y] = True
    missing = [label for label, there in zip(labels, seen, strict=True) if not there]
    if missing:
        more = len(missing) - _MOST_NAMED
        named = ", ".join(missing[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        yield Finding(
            "classes",
            f"{len(missing)} of {len(labels)} labels have no training example with any client: {named}; labels belong "
            "to the classes 0, 1, 2 and so on in this order",
        )
