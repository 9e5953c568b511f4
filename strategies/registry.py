"""The table of strategies, and how one is made from a config.

Other distributions add theirs through the entry-point group ``stonecrop.strategies``; a name of the table wins. A
strategy that wraps another names it in its args as ``inner: {name | factory, args}``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from fl_core.errors import ConfigError
from fl_core.registry import find_maker, load_callable
from strategies.afl import AFL
from strategies.base import Strategy
from strategies.central.central_dp import CentralDP
from strategies.central.dp_ftrl import DpFtrl
from strategies.fedadagrad import FedAdagrad
from strategies.fedadam import FedAdam
from strategies.fedasync import FedAsync
from strategies.fedavg import FedAvg
from strategies.fedavgm import FedAvgM
from strategies.fedbuff import FedBuff
from strategies.feddyn import FedDyn
from strategies.fednova import FedNova
from strategies.fedprox import FedProx
from strategies.fedyogi import FedYogi
from strategies.moon import Moon
from strategies.personal.ditto import Ditto
from strategies.personal.fedbn import FedBN
from strategies.personal.fedper import FedPer
from strategies.personal.fedrep import FedRep
from strategies.personal.finetune import FineTune
from strategies.qfedavg import QFedAvg
from strategies.robust.bulyan import Bulyan
from strategies.robust.centered_clipping import CenteredClipping
from strategies.robust.dnc import DivideAndConquer
from strategies.robust.fltrust import FLTrust
from strategies.robust.geometric_median import GeometricMedian
from strategies.robust.krum import Krum, MultiKrum
from strategies.robust.median import CoordinateMedian
from strategies.robust.nnm import NearestNeighbourMixing
from strategies.robust.norm_bound import NormBound
from strategies.robust.trimmed_mean import TrimmedMean
from strategies.scaffold import Scaffold

ENTRY_POINTS = "stonecrop.strategies"

STRATEGIES: Mapping[str, Callable[..., Strategy]] = {
    "afl": AFL,
    "bulyan": Bulyan,
    "centered_clipping": CenteredClipping,
    "central_dp": CentralDP,
    "ditto": Ditto,
    "dnc": DivideAndConquer,
    "dp_ftrl": DpFtrl,
    "fedadagrad": FedAdagrad,
    "fedadam": FedAdam,
    "fedasync": FedAsync,
    "fedavg": FedAvg,
    "fedavgm": FedAvgM,
    "fedbn": FedBN,
    "fedbuff": FedBuff,
    "feddyn": FedDyn,
    "fednova": FedNova,
    "fedper": FedPer,
    "fedprox": FedProx,
    "fedrep": FedRep,
    "fedyogi": FedYogi,
    "finetune": FineTune,
    "fltrust": FLTrust,
    "geometric_median": GeometricMedian,
    "krum": Krum,
    "median": CoordinateMedian,
    "moon": Moon,
    "multikrum": MultiKrum,
    "nnm": NearestNeighbourMixing,
    "norm_bound": NormBound,
    "qfedavg": QFedAvg,
    "scaffold": Scaffold,
    "trimmed_mean": TrimmedMean,
}


def build_strategy(name: str | None, factory: str | None, args: Mapping[str, Any], field: str = "strategy") -> Strategy:
    """The strategy of that name, or of that "package.module:Class".

    Raises:
        ConfigError: there is none of that name, it refuses its args, or what came is no Strategy.
    """
    maker = find_maker(field, name, factory, known_strategies())
    if _is_flower(maker.make):
        from strategies.flower.adapter import build_theirs

        return _adapt(build_theirs(maker, args))
    args = dict(args)
    inner = args.get("inner")
    if isinstance(inner, Mapping):
        unknown = inner.keys() - {"name", "factory", "args"}
        if unknown or ("name" in inner) == ("factory" in inner):
            raise ConfigError(f"{field}.args.inner: expected a name or a factory, and args, got {sorted(inner)}")
        args["inner"] = build_strategy(
            inner.get("name"), inner.get("factory"), inner.get("args") or {}, f"{field}.args.inner"
        )
    strategy = maker(args)
    if _is_flower(type(strategy)):
        return _adapt(strategy)
    if not isinstance(strategy, Strategy):
        raise ConfigError(f"{field}: expected a Strategy, got {type(strategy).__name__} from {name or factory}")
    return strategy


def known_strategies() -> dict[str, Callable[..., Any]]:
    """Every strategy that a config may name: the table's, and those that installed distributions offer.

    What an entry point names is loaded when it is built, not before.
    """
    return {**_offered(), **STRATEGIES}


@cache
def _offered() -> dict[str, Callable[..., Any]]:
    """Looked up once a process: finding entry points reads a file of every installed distribution."""
    return {entry.name: _EntryPoint(entry.value) for entry in entry_points(group=ENTRY_POINTS)}


class _EntryPoint:
    """The strategy of another distribution, loaded when it is called, by its "package.module:Class"."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __call__(self, **args: Any) -> Any:
        return load_callable(self._value, "strategy.name")(**args)


def _is_flower(kind: object) -> bool:
    """Whether a class is a Flower strategy; Flower itself is not imported for that."""
    names = {f"{base.__module__}:{base.__name__}" for base in getattr(kind, "__mro__", ())}
    return "flwr.serverapp.strategy.strategy:Strategy" in names


def _adapt(theirs: Any) -> Strategy:
    from strategies.flower.adapter import FlowerStrategy

    return FlowerStrategy(theirs)
