"""Draws held-out examples with an artefact's answers as one picture: images as images, sensor windows as curves.

Right and wrong differ by a sign, a word and the frame's line, not by colour alone. matplotlib is an extra and is
imported inside the function.
"""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from fl_core.errors import ExportError
from fl_core.files import write_atomic
from fl_core.types import Array
from simulation.try_artifact import Trial, TriedExample

COLUMNS = 4
RIGHT, WRONG, NEUTRAL = "#14508c", "#b3331f", "#5b616b"
CURVES = ("#14508c", "#d98a1f", "#1b7f5c", "#7a3d9a", "#b3331f", "#5b616b")
IMAGE_SIDE = 8  # pixels; a smaller last two axes is not drawn as an image


def draw_answers(trial: Trial, out: Path) -> None:
    """Write a PNG with every example of the trial, its answer and the truth.

    Raises:
        ExportError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ExportError("try: drawing needs matplotlib: pip install 'stonecrop[sim]'") from None
    rows = math.ceil(len(trial.answers) / COLUMNS)
    columns = min(COLUMNS, len(trial.answers))
    figure = Figure(figsize=(3.1 * columns, 2.9 * rows + 0.5), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(_headline(trial), fontsize=12)
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.ravel()[len(trial.answers) :]:
        panel.set_visible(False)
    for row, answer in enumerate(trial.answers):
        panel = panels.ravel()[row]
        draw_example(panel, trial.examples.x[row], reconstruction_of(trial, row))
        frame(panel, answer)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_atomic(out, buffer.getvalue())


def reconstruction_of(trial: Trial, row: int) -> Array | None:
    """The output where it has the form of the input, so that both can be drawn in one panel."""
    x_X, output_X = trial.examples.x[row], trial.outputs_BX[row]
    return output_X.reshape(x_X.shape) if output_X.size == x_X.size else None


def draw_example(panel: Any, x_X: Array, output_X: Array | None) -> None:
    """Draw an image [C, H, W] as an image, channels [C, T] or values [D] as curves; a reconstruction next to it."""
    panel.set_xticks([])
    panel.set_yticks([])
    if is_image(x_X):
        shown = x_X if output_X is None else np.concatenate([x_X, output_X], axis=2)
        pixels = np.moveaxis(shown, 0, -1)
        low, high = float(pixels.min()), float(pixels.max())
        pixels = (pixels - low) / ((high - low) or 1.0)
        panel.imshow(pixels[..., 0] if pixels.shape[-1] == 1 else pixels, cmap="gray")
        return
    for number, curve in enumerate(as_curves(x_X)):
        panel.plot(curve, color=CURVES[number % len(CURVES)], linewidth=1.2)
    if output_X is not None:
        for number, curve in enumerate(as_curves(output_X)):
            panel.plot(curve, color=CURVES[number % len(CURVES)], linewidth=1.0, linestyle="--")


def is_image(x_X: Array) -> bool:
    """Whether one example is [C, H, W] with the channels and the size of an image."""
    return x_X.ndim == 3 and x_X.shape[0] in (1, 3) and min(x_X.shape[1:]) >= IMAGE_SIDE


def as_curves(x_X: Array) -> Array:
    """[channels, time] of one example of any shape."""
    return x_X.reshape(1, -1) if x_X.ndim < 2 else x_X.reshape(x_X.shape[0], -1)


def frame(panel: Any, answer: TriedExample) -> None:
    """Title and frame that say answer, confidence and truth."""
    colour = {True: RIGHT, False: WRONG, None: NEUTRAL}[answer.right]
    sure = "" if answer.confidence is None else f" ({answer.confidence:.0%})"
    if answer.right is None:
        title = f"said: {answer.said}\ntruth: {answer.truth}" if answer.truth else answer.said
    else:
        title = f"{'✓' if answer.right else '✗ wrong:'} {answer.said}{sure}\ntruth: {answer.truth}"
    panel.set_title(title, fontsize=9, color=colour)
    for spine in panel.spines.values():
        spine.set(color=colour, linewidth=2.5 if answer.right is False else 1.0)
        spine.set_linestyle("--" if answer.right is False else "-")


def _headline(trial: Trial) -> str:
    known = [answer.right for answer in trial.answers if answer.right is not None]
    note = f": {sum(known)} of {len(known)} held-out examples right" if known else ""
    if reconstruction_of(trial, 0) is not None:
        note = ": the right half is its answer" if is_image(trial.examples.x[0]) else ": its answers are dashed"
    return f"{trial.format} artefact of round {trial.round}{note}"
