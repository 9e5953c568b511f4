"""Every strategy that a config may name passes the suite that Stonecrop ships."""

from __future__ import annotations

from typing import Any

import pytest

from fl_core.errors import ConfigError
from simulation.conformance.client_half import ClientHalf
from simulation.conformance.fit import Fit
from simulation.conformance.server_half import ServerHalf
from simulation.conformance.subject import make
from strategies.base import Strategy
from strategies.registry import STRATEGIES, build_strategy

ARGS: dict[str, dict[str, Any]] = {
    "central_dp": {"epsilon": 50.0, "expected_clients": 7},
    "dp_ftrl": {"epsilon": 50.0, "expected_clients": 2, "restart_every": 3},
}
"""Arguments of those that have no defaults for all of them."""
QUICK = ("fedavg", "scaffold", "median")
"""Whose whole runs are part of the quick tests."""


def section_of(name: str) -> dict[str, Any]:
    return {"name": name, "args": ARGS.get(name, {})}


class TestEveryStrategy(ServerHalf, ClientHalf):
    @pytest.fixture(params=sorted(STRATEGIES))
    def section(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        return section_of(request.param)

    @pytest.fixture
    def strategy(self, section: dict[str, Any]) -> Strategy:
        return make(section)


class TestSomeRuns(Fit):
    @pytest.fixture(params=QUICK)
    def section(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        return section_of(request.param)


@pytest.mark.slow
class TestEveryRun(Fit):
    @pytest.fixture(params=sorted(set(STRATEGIES) - set(QUICK)))
    def section(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        return section_of(request.param)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_an_argument_that_a_strategy_does_not_have_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match="nonsense"):
        build_strategy(name, None, {**ARGS.get(name, {}), "nonsense": 1})


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'fedavg'"):
        build_strategy("fedavgg", None, {})
