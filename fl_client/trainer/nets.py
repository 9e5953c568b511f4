"""The nets that a trainer holds, built once and used by one job after another."""

from __future__ import annotations

from fl_core.quant.forward import FrozenCache
from fl_core.spec import TrainingSpec


class TrainerNets:
    """One net a width, each with the outputs of its frozen front end."""

    def __init__(self) -> None:
        self._built: dict[int, tuple[str, FrozenCache]] = {}

    def of(self, spec: TrainingSpec, seed: int) -> FrozenCache:
        """The net of a spec; what it holds is what was trained in it last, and whoever trains in it loads it anew."""
        if spec.quant.ranges == "ema":  # its running ranges would go on from one client to the next
            return FrozenCache(spec.build_model(seed))
        key = repr((spec.model, spec.facts, spec.quant, spec.ranges, seed))
        built = self._built.get(spec.quant.weight_bits)
        if built is None or built[0] != key:
            built = self._built[spec.quant.weight_bits] = (key, FrozenCache(spec.build_model(seed)))
        return built[1]
