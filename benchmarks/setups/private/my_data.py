"""The same kind of rooms with more examples each, for training under privacy."""

import numpy as np

from fl_core.data.federation import ClientData, Examples, Federation


def rooms(clients=3, seed=1):
    rng = np.random.default_rng(seed)

    def measure(count):
        y = rng.integers(0, 3, count)
        wave = np.sin(np.linspace(0, 9, 32)) * (0.1 + 0.4 * y[:, None])
        x = np.clip(wave + 0.2 * rng.standard_normal((count, 32)), -1, 1)
        return Examples(x[:, None].astype(np.float32), y)

    return Federation(
        clients={f"room-{n}": ClientData(train=measure(300)) for n in range(clients)},
        test=measure(150),
        public=measure(40),
        labels=("empty", "one", "many"),
        groups={"first": np.arange(50), "rest": np.arange(50, 150)},
        unit="a measurement of 32 samples",
    )
