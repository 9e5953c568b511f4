"""Pictures of 8 x 8 with a bar that lies or stands, dealt to six shops."""

import numpy as np

from fl_core.data.federation import ClientData, Examples, Federation


def bars(shops=6, seed=1):
    rng = np.random.default_rng(seed)

    def part(count):
        y = rng.integers(0, 2, count)
        x = 0.1 * rng.random((count, 1, 8, 8))
        for row, lies in enumerate(y):
            at = rng.integers(1, 7)
            if lies:
                x[row, 0, at, :] += 0.8
            else:
                x[row, 0, :, at] += 0.8
        return Examples(np.clip(x, 0, 1).astype(np.float32), y)

    return Federation(
        clients={f"shop_{n}": ClientData(train=part(48), test=part(12)) for n in range(shops)},
        test=part(120),
        labels=("stands", "lies"),
        input_range=(0.0, 1.0),
        unit="a picture",
    )
