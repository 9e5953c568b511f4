"""By energy and heat: no battery is emptied and no hot board is heated further for a round.

A client may say of its device (``ClientInfo.device``) what its sensors read: ``battery_share`` (0 to 1), ``charging``
(0 or 1) and ``temperature_c`` (degrees Celsius). Who is too empty or too hot is not asked; the others are drawn by how
full they are, one that charges or has no battery counting as full. A client that says nothing counts as fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fl_server.selection.base import Candidate, Selection, draw_weighted


@dataclass(frozen=True)
class ByEnergy(Selection):
    """Weights by charge among those that are cool and charged enough."""

    least_battery_share: float = 0.3
    most_temperature_c: float = 75.0
    uses_device: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.least_battery_share <= 1:
            raise ValueError(
                f"clients.selection.args.least_battery_share: expected above 0, at most 1, "
                f"got {self.least_battery_share}"
            )

    def choose(
        self, candidates: Sequence[Candidate], wanted: int, round: int, draw: np.random.Generator
    ) -> list[Candidate]:
        """Candidates drawn by the energy that they can spare."""
        fit = [(each, self._charge(each)) for each in candidates if self._is_cool(each)]
        fit = [(each, charge) for each, charge in fit if charge >= self.least_battery_share]
        return draw_weighted([each for each, _ in fit], [charge for _, charge in fit], wanted, draw)

    def _is_cool(self, candidate: Candidate) -> bool:
        return candidate.info.device.get("temperature_c", 0.0) <= self.most_temperature_c

    def _charge(self, candidate: Candidate) -> float:
        device = candidate.info.device
        return 1.0 if device.get("charging") else device.get("battery_share", 1.0)
