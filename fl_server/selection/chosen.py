"""A rule of selection as a round asks it: whoever it names is a candidate, and named once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np

from fl_core.config.schema import SelectionSection
from fl_core.errors import ConfigError
from fl_core.own_code import own_code
from fl_core.registry import field_named
from fl_server.selection.base import Candidate, Selection


def chosen_by(
    rule: Selection,
    section: SelectionSection,
    candidates: Sequence[Candidate],
    wanted: int,
    round: int,
    draw: np.random.Generator,
) -> list[Candidate]:
    """Those whom the rule of ``section`` chooses.

    Raises:
        ConfigError: it gives something else, or a rule of somebody else's raises something; with the place in its code.
    """
    who = f"{field_named('clients.selection', section.name, section.factory)}: round {round}"
    with nullcontext() if section.factory is None else own_code(who, ConfigError):
        chosen: object = rule.choose(candidates, wanted, round, draw)
    if not isinstance(chosen, list | tuple) or not all(isinstance(each, Candidate) for each in chosen):
        raise ConfigError(f"{who}: choose: expected a list of candidates, got {type(chosen).__name__}")
    names = [each.client_id for each in chosen]
    if len({*names}) < len(names) or not {*names} <= {each.client_id for each in candidates}:
        raise ConfigError(f"{who}: choose: expected some of the candidates, each once, got {names}")
    return list(chosen)
