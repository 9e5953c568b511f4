"""What several strategies with a client half ask: which tensors are a model's head, and how much of all a round saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fl_core.errors import ConfigError, ModelError
from strategies.base import StrategyState

QUANTIZERS = "act_quant."
"""What stands before the path of a layer in the names of its output's learned range."""


def last_layer(names: Sequence[str]) -> str:
    """The path of the last layer that has trainable tensors, ``names`` being in the order of the model."""
    layers = [name for name in names if not name.startswith(QUANTIZERS)]
    if not layers:
        raise ModelError(f"model: expected trainable layers, got {sorted(names)}")
    return layers[-1].rpartition(".")[0] or layers[-1]


def tensors_of(layers: Sequence[str], names: Sequence[str]) -> frozenset[str]:
    """Those of ``names`` that belong to the layers, or to what lies below them: weights and learned ranges.

    Raises:
        ModelError: a layer has none.
    """
    found: set[str] = set()
    for layer in layers:
        own = {name for name in names if f"{name.removeprefix(QUANTIZERS)}.".startswith(f"{layer}.")}
        if not own:
            raise ModelError(
                f"strategy.args.layers: expected layers with trainable tensors {sorted(names)}, got {layer}"
            )
        found |= own
    return frozenset(found)


def kept_home(strategy: str, chosen: Callable[[Sequence[str]], frozenset[str]], names: Sequence[str]) -> frozenset[str]:
    """What is chosen to stay at home, which must be something and not everything.

    Raises:
        ModelError: nothing would stay, or nothing would travel.
    """
    home = chosen(names)
    if not home or len(home) == len(names):
        what = "keeps none of them at home" if not home else "leaves none to travel"
        raise ModelError(
            f"{strategy}: expected a model of which a part stays at home, but of {sorted(names)} it {what}"
        )
    return home


def check_clients(clients: int | None) -> None:
    """Refuse a number of all clients that is none.

    Raises:
        ValueError: it is below 1.
    """
    if clients is not None and clients < 1:
        raise ValueError(f"strategy.args.clients: expected at least 1, or null for all of a round, got {clients}")


def share_of_all(state: StrategyState, clients: int | None) -> float:
    """S/N: the share of all clients that the open round has summed; 1 where every round asks all of them.

    Raises:
        ConfigError: more clients than there are.
    """
    if clients is not None and state.summed > clients:
        raise ConfigError(f"strategy.args.clients: expected at least the {state.summed} of one round, got {clients}")
    return 1.0 if clients is None else state.summed / clients
