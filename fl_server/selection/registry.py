"""The table of rules of selection, and how one is made from a config."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fl_core.config.schema import SelectionSection
from fl_core.errors import ConfigError
from fl_core.parts import ASKED_PARTS, kind_of
from fl_core.registry import find_maker
from fl_server.selection.availability import ByAvailability
from fl_server.selection.base import Selection
from fl_server.selection.energy import ByEnergy
from fl_server.selection.oort import Oort
from fl_server.selection.speed import BySpeed
from fl_server.selection.uniform import Uniform

SELECTIONS: Mapping[str, Callable[..., Selection]] = {
    "availability": ByAvailability,
    "energy": ByEnergy,
    "oort": Oort,
    "speed": BySpeed,
    "uniform": Uniform,
}


def build_selection(section: SelectionSection, private: bool) -> Selection:
    """The rule that a config names.

    Raises:
        ConfigError: there is none of that name, it refuses its args, or it asks clients for parts that they
            cannot send at all, or not under DP.
    """
    field = "clients.selection"
    rule = find_maker(field, section.name, section.factory, SELECTIONS)(section.args)
    if not isinstance(rule, Selection):
        raise ConfigError(f"{field}: expected a Selection, got {type(rule).__name__}")
    for part in rule.asks:
        _check_asked(f"{field}: {type(rule).__name__}", part, private)
    return rule


def _check_asked(who: str, part: str, private: bool) -> None:
    if part not in ASKED_PARTS:
        raise ConfigError(f"{who} asks clients for the part {part!r}, expected one of {', '.join(ASKED_PARTS)}")
    refusal = kind_of(part).refusal_under_dp
    if private and refusal:
        raise ConfigError(
            f"{who} chooses by {kind_of(part).holds}: {refusal}; under privacy expected uniform, availability, speed "
            "or energy"
        )
