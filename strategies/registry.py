"""The table of strategies, and how one is made from a config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fl_core.errors import ConfigError
from fl_core.registry import load_callable, look_up
from strategies.base import Strategy
from strategies.fedavg import FedAvg
from strategies.fedavgm import FedAvgM
from strategies.fedprox import FedProx

STRATEGIES: Mapping[str, Callable[..., Strategy]] = {
    "fedavg": FedAvg,
    "fedavgm": FedAvgM,
    "fedprox": FedProx,
}


def build_strategy(name: str | None, factory: str | None, args: Mapping[str, Any]) -> Strategy:
    """The strategy of that name, or of that "package.module:Class".

    Raises:
        ConfigError: there is none of that name, it refuses its args, or what came is no Strategy.
    """
    maker = look_up("strategy.name", name, STRATEGIES) if name is not None else _load(factory)
    try:
        strategy = maker(**args)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"strategy.args: {error}") from None
    if not isinstance(strategy, Strategy):
        raise ConfigError(f"strategy.factory: expected a Strategy, got {type(strategy).__name__} from {factory}")
    return strategy


def _load(factory: str | None) -> Callable[..., Any]:
    return load_callable(factory or "", "strategy.factory")
