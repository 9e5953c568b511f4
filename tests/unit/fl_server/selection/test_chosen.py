"""A rule of somebody else's that fails or names nobody who is there is one line with its field and the round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from fl_core.config.schema import SelectionSection
from fl_core.errors import ConfigError
from fl_core.types import ClientInfo
from fl_server.selection.base import Candidate, Selection
from fl_server.selection.chosen import chosen_by

SECTION = SelectionSection(factory="mine:Rule")
CANDIDATES = [Candidate(ClientInfo(name, 64, "1.0", simulated=True)) for name in ("ada", "ben", "cyd")]
STRANGER = Candidate(ClientInfo("dan", 64, "1.0", simulated=True))


@dataclass(frozen=True)
class Rule(Selection):
    given: Callable[[Any], Any]

    def choose(self, candidates: Any, wanted: int, round: int, draw: np.random.Generator) -> Any:
        return self.given(candidates)


def choose(given: Callable[[Any], Any]) -> list[Candidate]:
    return chosen_by(Rule(given), SECTION, CANDIDATES, 2, 4, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (lambda candidates: None, "choose: expected a list of candidates, got NoneType"),
        (lambda candidates: ["ada"], "choose: expected a list of candidates, got list"),
        (lambda candidates: candidates[:1] * 2, r"choose: expected some of .* each once, got \['ada', 'ada'\]"),
        (lambda candidates: [STRANGER], r"choose: expected some of the candidates, each once, got \['dan'\]"),
        (lambda candidates: candidates[9], r"IndexError: .* \(.*test_chosen.py, line \d+, in <lambda>\)"),
    ],
)
def test_a_choice_that_is_none_is_one_line(given: Callable[[Any], Any], says: str) -> None:
    with pytest.raises(ConfigError, match=f"^clients.selection.factory mine:Rule: round 4: {says}$"):
        choose(given)


def test_those_who_are_chosen_come_in_the_order_of_the_rule() -> None:
    assert choose(lambda candidates: (candidates[2], candidates[0])) == [CANDIDATES[2], CANDIDATES[0]]
