"""The share S/N of all clients that a round has summed, for algorithms whose server keeps a term for all N of them."""

from __future__ import annotations

from fl_core.errors import ConfigError
from strategies.base import StrategyState


def check_number_of_clients(clients: int | None) -> None:
    """Refuse a number of all clients that is none.

    Raises:
        ValueError: it is below 1.
    """
    if clients is not None and clients < 1:
        raise ValueError(f"strategy.args.clients: expected at least 1, or null for all of a round, got {clients}")


def share_of_all(state: StrategyState, clients: int | None) -> float:
    """S/N: the share of all clients that the open round has summed; 1 where every round asks all of them.

    Raises:
        ConfigError: the round has summed more clients than there are.
    """
    if clients is not None and state.summed > clients:
        raise ConfigError(f"strategy.args.clients: expected at least the {state.summed} of one round, got {clients}")
    return 1.0 if clients is None else state.summed / clients
