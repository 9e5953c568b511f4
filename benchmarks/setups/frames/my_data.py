"""Waves that two numbers decide, to be reconstructed; the server has no test set, each client holds some out."""

import numpy as np

from fl_core.data.federation import ClientData, Examples, Federation


def waves(seed=1):
    rng = np.random.default_rng(seed)
    basis = np.random.default_rng(7).uniform(-0.5, 0.5, (2, 2, 8))

    def part(count):
        x = np.tensordot(rng.uniform(-1, 1, (count, 2)), basis, axes=1).astype(np.float32)
        return Examples(x, x)

    return Federation(clients={f"mast-{n}": ClientData(part(64), part(16)) for n in range(3)}, public=part(32))
