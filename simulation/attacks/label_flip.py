"""Label flipping, as in arXiv 2012.13995: an attacker trains honestly on lies, class c called classes - 1 - c."""

from __future__ import annotations

from dataclasses import dataclass

from fl_core.data.federation import Examples
from fl_core.errors import ConfigError
from simulation.attacks.base import Attack


@dataclass(frozen=True)
class LabelFlip(Attack):
    """Data poisoning by targets whose order of classes is reversed."""

    def poison(self, examples: Examples, classes: int) -> Examples:
        """The inputs as they were, each target [N] flipped.

        Raises:
            ConfigError: the targets are no classes.
        """
        if classes < 2 or examples.y.ndim != 1 or examples.y.dtype.kind not in "iu":
            raise ConfigError(
                f"simulation.attack.name: label_flip expected classes as targets, got {examples.y.dtype} "
                f"of shape {examples.y.shape} and {classes} labels"
            )
        return Examples(examples.x, (classes - 1 - examples.y).astype(examples.y.dtype))
