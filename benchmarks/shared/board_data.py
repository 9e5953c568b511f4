"""Made examples of any shape, so that every model can be trained for its memory alone; they say nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fl_core.data.federation import ClientData, Examples, Federation

CLIENT = "person-01"


def examples(shape: Sequence[int], outputs: int, number: int, labels: bool = True) -> Federation:
    """``number`` examples of one client, float32 [*shape]; targets are classes or, without ``labels``, the inputs."""
    draw = np.random.default_rng(0)

    def some(count: int) -> Examples:
        x = draw.uniform(-1, 1, (count, *shape)).astype(np.float32)
        return Examples(x, draw.integers(0, outputs, count) if labels else x.reshape(count, -1))

    names = tuple(map(str, range(outputs))) if labels else ()
    return Federation({CLIENT: ClientData(some(number))}, test=some(8), labels=names)
