"""Made-up inputs that stand in for real ones where a fixed layer needs to know what inputs look like.

Strokes of a pen and movements of a wrist, drawn from formulas and a fixed key. They hold nothing of anybody, so what
is computed from them is a public constant: it costs no privacy budget.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fl_core.rng import generator

Signals = npt.NDArray[np.float32]

_POINTS = 32
_CHUNK = 100


def strokes(count: int, size: int) -> Signals:
    """Grey images [count, 1, size, size] in 0..1: one to three smooth pen strokes, centred, of one overall size."""
    draw = generator("public strokes", count, size)
    curves = 3
    control = draw.uniform(0, 1, (count, curves, 4, 1, 2))
    t = np.linspace(0, 1, _POINTS)[:, None]
    weights = ((1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3)  # cubic Bezier
    points = np.sum([control[:, :, i] * weight for i, weight in enumerate(weights)], axis=0)
    # Fewer strokes: the missing ones lie on top of the first.
    used = np.arange(curves)[None] < draw.integers(1, curves + 1, (count, 1))
    points = np.where(used[:, :, None, None], points, points[:, :1]).reshape(count, -1, 2)
    low, high = points.min(axis=1, keepdims=True), points.max(axis=1, keepdims=True)
    extent = np.maximum((high - low).max(axis=2, keepdims=True), 0.3)
    points = (points - (low + high) / 2) * (0.65 * size / extent) + (size - 1) / 2
    width = draw.uniform(0.8, 1.6, (count, 1, 1)) * size / 28
    images = [_ink(points[at : at + _CHUNK], width[at : at + _CHUNK], size) for at in range(0, count, _CHUNK)]
    return np.concatenate(images)[:, None]


def movements(count: int, axes: int, length: int, rate_hz: float) -> Signals:
    """Signals [count, axes, length] in -1..1: a posture and a rhythm with overtones that all axes share.

    The first half of the axes is accelerometers, which feel gravity; the other half is gyroscopes.
    """
    draw = generator("public movements", count, axes, length)
    time_s = np.arange(length) / rate_hz
    rhythm_hz = draw.uniform(0.2, 1.2, (count, 1, 1, 1))
    start = draw.uniform(0, 2 * np.pi, (count, 1, 1, 1))
    overtone = np.array([1, 2, 3, 5])[:, None]
    shift = draw.integers(0, 4, (count, axes, 4, 1)) * (np.pi / 2)
    accelerometers = axes - axes // 2
    strength = (
        draw.exponential(0.3, (count, axes, 1, 1))
        * np.where(np.arange(axes) < accelerometers, 0.5, 1.0)[None, :, None, None]
    )
    size = strength * draw.standard_normal((count, axes, 4, 1)) / overtone
    waves = (size * np.sin(overtone * (2 * np.pi * rhythm_hz * time_s + start) + shift)).sum(axis=2)
    posture = draw.standard_normal((count, accelerometers))
    waves[:, :accelerometers] += 0.5 * (posture / np.linalg.norm(posture, axis=1, keepdims=True))[:, :, None]
    noise = 0.01 * draw.standard_normal(waves.shape)
    clipped: Signals = np.clip(waves + noise, -1, 1).astype(np.float32)
    return clipped


def _ink(points: npt.NDArray[np.float64], width: npt.NDArray[np.float64], size: int) -> Signals:
    """Darkness of every pixel [n, size, size] by its distance to the nearest point [n, P, 2] of a stroke."""
    axis = np.arange(size)
    across = (axis[None, None] - points[:, :, :1]) ** 2
    down = (axis[None, None] - points[:, :, 1:]) ** 2
    nearest = (down[:, :, :, None] + across[:, :, None, :]).min(axis=1)
    dark: Signals = np.clip(1.5 - np.sqrt(nearest) / width, 0, 1).astype(np.float32)
    return dark
