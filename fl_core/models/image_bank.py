"""Small images for private training: fixed Gabor filters and a fixed mixing layer, then one trained linear layer.

    convolution (64 Gabor filters, fixed) -> clamp -> average pool -> mixing (fixed) -> linear (trained)

Only the last layer has weights that are trained (``mixed * classes + classes`` of them), so noise and clipping act
on few numbers, and on a convex problem. After arXiv 2011.11660, without its normalisation by data.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from torch import nn

from fl_core.models.filters import gabor_bank
from fl_core.models.mixing import fixed, with_head, with_mixing
from fl_core.models.public_signals import strokes

_WAVELENGTHS_PX = (5.0, 9.0)
_ORIENTATIONS = 8
_SIZE = 9
_THRESHOLD = 0.2
"""A response below this is noise: it becomes 0. Filters have norm 1 and pixels lie in 0..1."""
_CEILING = 0.6
"""A response above this counts as this: how far an edge reaches then matters more than how dark it is."""
_PUBLIC_STROKES = 1000


def image_bank(
    input_shape: tuple[int, ...], outputs: int, mixed: int = 128, pool_px: int = 7, shrink: float = 1.0
) -> nn.Module:
    """The model for square grey images: from [B, 1, S, S] in 0..1 to [B, outputs].

    Args:
        input_shape: (1, S, S).
        outputs: classes.
        mixed: features that the trained layer sees.
        pool_px: side of the squares that responses are averaged over; must divide S.
        shrink: how little the mixing layer evens out, see ``mixing_layer``.

    Raises:
        ValueError: the images are not grey and square, or ``pool_px`` does not divide their side.
    """
    if len(input_shape) != 3 or input_shape[0] != 1 or input_shape[1] != input_shape[2]:
        raise ValueError(f"image_bank: expected inputs of shape (1, S, S), got {tuple(input_shape)}")
    if input_shape[1] % pool_px:
        raise ValueError(f"image_bank: expected pool_px to divide the side {input_shape[1]}, got {pool_px}")
    return with_head(_fixed_part(input_shape[1], pool_px, mixed, shrink), outputs)


@lru_cache(maxsize=4)
def _fixed_part(side: int, pool_px: int, mixed: int, shrink: float) -> nn.Sequential:
    filters = gabor_bank(_SIZE, _WAVELENGTHS_PX, _ORIENTATIONS)[:, None]
    bank = fixed(nn.Conv2d(1, len(filters), _SIZE, padding=_SIZE // 2), filters, np.full(len(filters), -_THRESHOLD))
    return with_mixing(
        {
            "bank": bank,
            "clamp": nn.Hardtanh(0.0, _CEILING),
            "pool": nn.AvgPool2d(pool_px),
            "flatten": nn.Flatten(),
        },
        strokes(_PUBLIC_STROKES, side),
        mixed,
        shrink,
    )
