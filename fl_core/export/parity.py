"""The gate between what was trained and what a runtime computes.

Outputs of the runtime are compared with the fake-quant forward in least significant bits (LSB), one LSB being one step
of the output's scale. Parity is a gate: an artefact beyond its limits is refused with its figures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fl_core.errors import ParityError
from fl_core.quant.lowered import Lowered, weighted_layers
from fl_core.types import FloatArray

SMALL_NET_LAYERS = 6
LAYERS_PER_EXTRA_LSB = 8


@dataclass(frozen=True)
class Parity:
    """How far a runtime's outputs are from the reference's, over one set of examples."""

    examples: int
    top1_agreement: float | None
    """Share of examples with the same largest output; None where the outputs are no classes."""
    max_lsb: int
    """Largest distance of one output, in LSB of the output."""
    exact_fraction: float
    """Share of single outputs that are equal."""
    max_abs: float
    """Largest distance of one output in real units: for records of quantities, of which an LSB says nothing."""


@dataclass(frozen=True)
class ParityLimits:
    """What an artefact may differ by. ``top1_agreement`` is None for outputs that are no classes."""

    top1_agreement: float | None
    max_lsb: int

    @classmethod
    def for_model(cls, lowered: Lowered, classes: bool) -> ParityLimits:
        """The gate of a model by its depth: 1 LSB for a small net, one more for each further eight layers.

        The float convolution of the fake-quant forward and the integer one round differently only near a tie, where
        they part by 1 LSB; every later layer can widen that. A net of 50 layers was measured at 6 LSB on ONNX Runtime,
        where this bound gives 7.
        """
        deeper = max(0, len(weighted_layers(lowered)) - SMALL_NET_LAYERS)
        return cls(top1_agreement=0.99 if classes else None, max_lsb=1 + -(-deeper // LAYERS_PER_EXTRA_LSB))


def measure_parity(reference_BK: FloatArray, got_BK: FloatArray, output_scale: float, classes: bool) -> Parity:
    """The figures of ``Parity``; classes stand on axis 1.

    Raises:
        ParityError: the shapes differ, there are no examples, or an output is not finite.
    """
    if reference_BK.shape != got_BK.shape or reference_BK.size == 0:
        raise ParityError(f"parity: expected outputs of shape {reference_BK.shape}, got {got_BK.shape}")
    for whose, values in (("reference", reference_BK), ("artefact", got_BK)):
        if not np.isfinite(values).all():
            raise ParityError(f"parity: expected finite outputs, got NaN or Inf from the {whose}")
    distance_BK = np.abs(reference_BK.astype(np.float64) - got_BK.astype(np.float64))
    lsb_BK = np.rint(distance_BK / output_scale)
    agreement = None
    if classes:
        agreement = float(np.mean(reference_BK.argmax(axis=1) == got_BK.argmax(axis=1)))
    return Parity(
        examples=len(reference_BK),
        top1_agreement=agreement,
        max_lsb=int(lsb_BK.max()),
        exact_fraction=float(np.mean(lsb_BK == 0)),
        max_abs=float(distance_BK.max()),
    )


def check_parity(reference_BK: FloatArray, got_BK: FloatArray, output_scale: float, limits: ParityLimits) -> Parity:
    """Measures parity and refuses what is beyond ``limits``.

    One example may change its class whatever the limit on agreement: within ``max_lsb`` that is a near tie, and one
    example could not tell it from a fault. At a limit of .99 this speaks for fewer than 100 examples; from there on
    the limit itself allows one.

    Raises:
        ParityError: a limit is exceeded, with every figure; or the outputs cannot be compared.
    """
    parity = measure_parity(reference_BK, got_BK, output_scale, classes=limits.top1_agreement is not None)
    problems = []
    if parity.max_lsb > limits.max_lsb:
        problems.append(f"expected at most {limits.max_lsb} LSB, got {parity.max_lsb}")
    if limits.top1_agreement is not None and parity.top1_agreement is not None:
        changed = round((1 - parity.top1_agreement) * parity.examples)
        if parity.top1_agreement < limits.top1_agreement and changed > 1:
            problems.append(f"expected top-1 agreement >= {limits.top1_agreement}, got {parity.top1_agreement}")
    if problems:
        raise ParityError(f"parity: {'; '.join(problems)} ({parity})")
    return parity
