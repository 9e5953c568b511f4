"""Whether the terms of private training can be kept, and leave anything to train on, for the clients that there are."""

from __future__ import annotations

from collections.abc import Collection

from fl_core.config import Config
from fl_core.errors import ConfigError, PrivacyError
from fl_core.types import ClientInfo
from fl_server.plan.tasks import ranges_noise, sampling


def check_private_terms(config: Config, clients: Collection[ClientInfo]) -> None:
    """Refuse terms under which no round can do any good; nothing without privacy.

    Raises:
        ConfigError: the share for ranges is too small for any noise, or hardly anyone's example is ever drawn.
    """
    if config.privacy is None:
        return
    if config.quant.ranges == "dp_histogram":
        try:
            ranges_noise(config.privacy)
        except PrivacyError as error:
            raise ConfigError(
                f"privacy.ranges_share: expected a share of epsilon {config.privacy.epsilon:g} that pays for the "
                f"ranges, got {config.privacy.ranges_share:g}: {error}"
            ) from None
    _check_sampling(config, clients)


def _check_sampling(config: Config, clients: Collection[ClientInfo]) -> None:
    """Refuse a sampling rate at which all steps of the run are to be expected to draw no example of any client."""
    largest = max(clients, key=lambda client: client.size_class, default=None)
    if largest is None or config.clients.sample_rate is None:
        return
    rate, steps = sampling(config.clients, largest.size_class)
    draws = largest.size_class * steps * config.run.rounds
    if rate * draws < 1:
        raise ConfigError(
            f"clients.sample_rate: expected at least {1 / draws:.2g}, so that the {steps * config.run.rounds} steps of "
            f"the run draw one of the {largest.size_class} examples of client {largest.client_id}, got {rate:g}"
        )
