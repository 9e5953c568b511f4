"""What a device insists on, whatever a server asks: the owner's limits, kept on the device, never sent by a plan.

A server can only be stricter. ``check`` is a pure rule; ``load`` and ``save`` are the file around it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from fl_core.errors import PolicyError, PrivacyError
from fl_core.files import write_json
from fl_core.privacy.accountant import check_accountant
from fl_core.types import DpTerms


@dataclass(frozen=True)
class DevicePolicy:
    """The least protection that a device trains under.

    Raises:
        PolicyError: a field is out of range; the message names it.
    """

    epsilon_cap: float
    """Largest epsilon that one data set may ever spend, over all runs."""
    delta: float
    max_clip_norm: float
    min_noise_multiplier: float
    max_sample_rate: float

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 < value < math.inf:
                raise PolicyError(f"policy.{name}: expected a positive number, got {value!r}")
        for name, value in (("delta", self.delta), ("max_sample_rate", self.max_sample_rate)):
            if value > 1.0:
                raise PolicyError(f"policy.{name}: expected at most 1, got {value}")

    def check(self, terms: DpTerms) -> None:
        """Refuse terms that protect less than this policy, or that make no sense.

        Raises:
            PolicyError: names the field, what the device expects and what the plan asks for.
        """
        for name in ("epsilon", "delta", "clip_norm", "noise_multiplier", "sample_rate", "steps", "normaliser"):
            value = getattr(terms, name)
            if not 0.0 < value < math.inf:  # false for a NaN too
                raise PolicyError(f"{name}: expected a positive number, got {value}")
        try:
            check_accountant(terms.accountant)
        except PrivacyError as unknown:
            raise PolicyError(str(unknown)) from None
        at_most = {
            "epsilon": self.epsilon_cap,
            "delta": self.delta,
            "clip_norm": self.max_clip_norm,
            "sample_rate": self.max_sample_rate,
        }
        for name, limit in at_most.items():
            if getattr(terms, name) > limit:
                raise PolicyError(
                    f"{name}: this device allows at most {limit}, the plan asks for {getattr(terms, name)}"
                )
        if terms.noise_multiplier < self.min_noise_multiplier:
            raise PolicyError(
                f"noise_multiplier: this device asks for at least {self.min_noise_multiplier}, "
                f"the plan offers {terms.noise_multiplier}"
            )

    def save(self, path: Path) -> None:
        """Write the policy as JSON, which is YAML too, in one step: a reader sees the old file or the new one."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> DevicePolicy:
        """Read a policy from YAML or JSON.

        Raises:
            PolicyError: the file is missing, unreadable, lacks a field or has one that does not exist.
        """
        from omegaconf import OmegaConf

        try:
            values = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
        except Exception as damaged:
            why = " ".join(str(damaged).split())  # what YAML says stands on several lines
            raise PolicyError(f"policy {path}: cannot be read: {why}") from damaged
        expected = sorted(field.name for field in fields(cls))
        if not isinstance(values, dict) or sorted(map(str, values)) != expected:
            got = sorted(map(str, values)) if isinstance(values, dict) else values
            raise PolicyError(f"policy {path}: expected the fields {', '.join(expected)}, got {got}")
        return cls(**{str(name): value for name, value in values.items()})
