"""A finding: one line that a person should read about a run that goes on all the same.

What cannot run is an error. What runs, and probably does something else than its user thinks, is a finding: a layer
that normalises nothing, inputs that saturate, a net that does not learn. ``fl-sim validate``, the live view, the
closing table, ``summary.json`` and the report all show the same findings in the same words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """What is seen, where, and what usually helps, in one line."""

    topic: str
    """A stable word for scripts: "normalisation", "input range", "attack" and so on."""
    text: str
    """One line that names the layer, the client or the field, says what is seen and what usually helps."""

    def __str__(self) -> str:
        return f"{self.topic}: {self.text}"

    def to_plain(self) -> dict[str, str]:
        """As an event and ``summary.json`` hold it."""
        return asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Finding:
        """The finding that ``to_plain`` wrote."""
        return cls(str(plain["topic"]), str(plain["text"]))
