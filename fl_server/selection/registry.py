"""The table of rules of selection, and how one is made from a config."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fl_core.config.schema import SelectionSection
from fl_core.errors import ConfigError
from fl_core.registry import load_callable, look_up
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
        ConfigError: there is none of that name, it refuses its args, or it needs losses in a run under DP.
    """
    field = "clients.selection"
    if section.name is not None:
        maker = look_up(f"{field}.name", section.name, SELECTIONS)
    else:
        maker = load_callable(section.factory or "", f"{field}.factory")
    try:
        rule = maker(**section.args)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{field}.args: {error}") from None
    if not isinstance(rule, Selection):
        raise ConfigError(f"{field}: expected a Selection, got {type(rule).__name__}")
    if rule.uses_losses and private:
        raise ConfigError(
            f"{field}: {type(rule).__name__} chooses by losses of private examples, which would leave the device "
            "without noise; under privacy expected uniform, availability, speed or energy"
        )
    return rule
