"""The table of strategies, and how one is made from a config.

Other distributions add theirs through the entry-point group ``stonecrop.strategies``; a name of the table wins. A
strategy that wraps another names it in its args as ``inner: {name | factory, args}``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

from fl_core.errors import ConfigError
from fl_core.registry import load_callable, look_up
from strategies.base import Strategy
from strategies.fedavg import FedAvg
from strategies.fedavgm import FedAvgM
from strategies.fedprox import FedProx

ENTRY_POINTS = "stonecrop.strategies"

STRATEGIES: Mapping[str, Callable[..., Strategy]] = {
    "fedavg": FedAvg,
    "fedavgm": FedAvgM,
    "fedprox": FedProx,
}


def build_strategy(name: str | None, factory: str | None, args: Mapping[str, Any], field: str = "strategy") -> Strategy:
    """The strategy of that name, or of that "package.module:Class".

    Raises:
        ConfigError: there is none of that name, it refuses its args, or what came is no Strategy.
    """
    maker = _find(name, field) if name is not None else load_callable(factory or "", f"{field}.factory")
    args = dict(args)
    inner = args.get("inner")
    if isinstance(inner, Mapping):
        unknown = inner.keys() - {"name", "factory", "args"}
        if unknown or ("name" in inner) == ("factory" in inner):
            raise ConfigError(f"{field}.args.inner: expected a name or a factory, and args, got {sorted(inner)}")
        args["inner"] = build_strategy(
            inner.get("name"), inner.get("factory"), inner.get("args") or {}, f"{field}.args.inner"
        )
    try:
        strategy = maker(**args)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{field}.args: {error}") from None
    if not isinstance(strategy, Strategy):
        raise ConfigError(f"{field}: expected a Strategy, got {type(strategy).__name__} from {name or factory}")
    return strategy


def known_strategies() -> dict[str, Callable[..., Any]]:
    """Every strategy that a config may name: the table's, and those that installed distributions offer.

    What an entry point names is loaded when it is built, not before.
    """
    offered = {entry.name: _Offered(entry.value) for entry in entry_points(group=ENTRY_POINTS)}
    return {**offered, **STRATEGIES}


class _Offered:
    """A strategy of another distribution, by its "package.module:Class"."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __call__(self, **args: Any) -> Any:
        return load_callable(self._value, "strategy.name")(**args)


def _find(name: str, field: str) -> Callable[..., Any]:
    return look_up(f"{field}.name", name, known_strategies())
