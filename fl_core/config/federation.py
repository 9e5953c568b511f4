"""From a config to its checked data."""

from __future__ import annotations

from fl_core.config.schema import Config
from fl_core.data.datasets import build_federation
from fl_core.data.federation import Federation


def federation_of(config: Config) -> Federation:
    """The checked data of a config."""
    data = config.data
    return build_federation(data.name, data.factory, data.args, data.partition, config.run.seed)
