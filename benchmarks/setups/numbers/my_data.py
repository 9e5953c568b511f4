"""Sites whose readings decide a number between -1 and 1; the server keeps a test set."""

import numpy as np

from fl_core.data.federation import ClientData, Examples, Federation


def readings(seed=1):
    rng = np.random.default_rng(seed)
    form = np.linspace(-0.2, 0.2, 12)

    def part(count):
        x = rng.uniform(-1, 1, (count, 12)).astype(np.float32)
        return Examples(x, np.clip(x @ form, -1, 1).astype(np.float32))

    sites = {name: ClientData(part(80)) for name in ("north", "east", "south", "west")}
    return Federation(sites, test=part(120), unit="a reading", input_range=(-1.0, 1.0))
