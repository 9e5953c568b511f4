"""What quantization is asked for: bits, grid and where ranges come from. Checked when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from fl_core.parts import RANGES_PART

GridKind = Literal["asymmetric", "symmetric"]
RangesKind = Literal["fixed", "public", "ema", "learned", "dp_histogram"]


@dataclass(frozen=True)
class QuantSpec:
    """How a float model becomes a quantization-aware one.

    Weights are quantized per output channel, symmetric around zero, with the scale taken from their largest
    magnitude; activations per tensor, 8 bits, on the chosen grid (arXiv 1712.05877).

    >>> from fl_core.quant.spec import QuantSpec
    >>> spec = QuantSpec(weight_bits=4, per_layer={"head": 8}, client_bits={"watch": 2})
    >>> spec.bits_of("stem"), spec.bits_of("head"), spec.width_of("watch"), spec.widths
    (4, 8, 2, (4, 2))
    >>> QuantSpec(weight_bits=9)
    Traceback (most recent call last):
    ValueError: quant.weight_bits must be 2 to 8, got 9

    Raises:
        ValueError: a field is out of range; the message names it.
    """

    enabled: bool = True
    weight_bits: int = 8
    """Bits of a weight, 2 to 8."""
    activation_bits: int = 8
    grid: GridKind = "asymmetric"
    """Grid of the activations: asymmetric is uint8 with a zero point, symmetric is int8 with zero point 0."""
    ranges: RangesKind = "fixed"
    """fixed: constants; public: calibrated on public examples; ema: running, never under privacy; learned:
    parameters inside the clipped update; dp_histogram: measured under DP in round 0, paid from the budget."""
    per_layer: Mapping[str, int] = field(default_factory=dict)
    """Weight bits of single layers, by their name in the float model; at every width of a fleet."""
    client_bits: Mapping[str, int] = field(default_factory=dict)
    """``weight_bits`` of single clients, by client_id: a fleet of boards that do not all run the same width."""

    def __post_init__(self) -> None:
        _check_bits("quant.weight_bits", self.weight_bits)
        for layer, bits in self.per_layer.items():
            _check_bits(f"quant.per_layer.{layer}", bits)
        for client, bits in self.client_bits.items():
            _check_bits(f"quant.client_bits.{client}", bits)
        if self.activation_bits != 8:
            raise ValueError(f"quant.activation_bits must be 8, got {self.activation_bits}")

    def bits_of(self, layer: str) -> int:
        """Weight bits of one layer of the float model."""
        return self.per_layer.get(layer, self.weight_bits)

    @property
    def asks(self) -> tuple[str, ...]:
        """Parts that every update must bring for it: running ranges where they are measured by the clients."""
        return (RANGES_PART,) if self.ranges == "ema" else ()

    @property
    def widths(self) -> tuple[int, ...]:
        """``weight_bits`` first, then every other width that a client trains at, wide ones first."""
        others = set(self.client_bits.values()) - {self.weight_bits}
        return (self.weight_bits, *sorted(others, reverse=True))

    def width_of(self, client_id: str) -> int:
        """What one client trains at."""
        return self.client_bits.get(client_id, self.weight_bits)

    def at_width(self, bits: int) -> QuantSpec:
        """The spec of the width ``bits`` alone: all that a client of it is told, and nothing of any other client."""
        return replace(self, weight_bits=bits, client_bits={})


def _check_bits(field_name: str, bits: int) -> None:
    if not 2 <= bits <= 8:
        raise ValueError(f"{field_name} must be 2 to 8, got {bits}")
