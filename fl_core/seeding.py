"""A user's own factory draws from the global generators; inside here they start from a seed, and outside as before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_WORD = 32


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, the global generators of torch, numpy and Python start from ``seed``, 0 to 2**64 - 1.

    Afterwards they go on as if nothing had been drawn.
    """
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed([seed % 2**_WORD, seed >> _WORD])
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
