"""Whether the parts of a run may go together, and whether there are enough clients for its strategy to move.

Everything is asked once, before anything starts, of the table of forbidden pairs and of the strategy.
"""

from __future__ import annotations

from collections.abc import Iterable

from fl_core.config import Config
from fl_core.errors import ConfigError
from fl_core.types import ClientInfo
from fl_server.plan.forbidden import FORBIDDEN, RUN_PARTS
from strategies.base import Strategy


def problems_of(config: Config, strategy: Strategy) -> list[str]:
    """Each forbidden pair of a run, in one line each, and a cohort that is too small; empty where nothing is wrong."""
    there = {name for name, has in RUN_PARTS.items() if has(config, strategy.traits)}
    pairs = [
        f"{pair.field}: {pair.left} cannot go with {pair.right}: {pair.reason}"
        for pair in FORBIDDEN
        if {pair.left, pair.right} <= there
    ]
    asked = config.clients.per_round
    few = "" if asked is None else too_few("clients.per_round", asked, config, strategy)
    return [*pairs, few] if few else pairs


def check_run(config: Config, strategy: Strategy) -> None:
    """Refuse a run that holds a forbidden pair, or whose rounds ask too few clients.

    Raises:
        ConfigError: with all of them.
    """
    problems = problems_of(config, strategy)
    if problems:
        raise ConfigError(problems)


def check_clients(config: Config, strategy: Strategy, clients: int) -> None:
    """Refuse a run whose ``clients``, all that there are at its start, are too few for its strategy ever to move.

    Raises:
        ConfigError: they are.
    """
    few = too_few("clients", clients, config, strategy)
    if few:
        raise ConfigError(few)


def check_delta(config: Config, clients: Iterable[ClientInfo]) -> None:
    """Refuse a delta that allows what nobody would call private: to publish an example of a client as it is.

    That has a probability of ``delta`` for each example; at one over their number it is to be expected of one.

    Raises:
        ConfigError: delta is that large for one of the clients.
    """
    if config.privacy is None:
        return
    largest = max(clients, key=lambda client: client.size_class, default=None)
    if largest is not None and config.privacy.delta * largest.size_class >= 1:
        raise ConfigError(
            f"privacy.delta: expected below 1/{largest.size_class}, one over the examples of client "
            f"{largest.client_id}, got {config.privacy.delta:g}"
        )


def check_deployed(config: Config) -> None:
    """Refuse what only a simulation can do: on boards it would be left out without a word.

    Raises:
        ConfigError: the config asks for it.
    """
    attack = config.simulation.attack
    if attack is not None:
        raise ConfigError(
            f"simulation.attack: {attack.name}: no board of a real fleet can be told to lie; expected null in a "
            "deployed run, run it with fl-sim"
        )


def too_few(field: str, clients: int, config: Config, strategy: Strategy) -> str:
    """Why rounds with so many clients would move nothing; empty where they may."""
    # In an asynchronous run the buffer counts, which fills up whoever is asked.
    if "asynchronous" in strategy.traits or clients >= strategy.least_updates:
        return ""
    who = config.strategy.name or config.strategy.factory
    return (
        f"{field}: expected at least {strategy.least_updates}, the fewest updates with which {who} moves the model, "
        f"got {clients}"
    )
