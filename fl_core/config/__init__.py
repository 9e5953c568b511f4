"""Configs: typed, frozen sections, and the loader that says everything wrong with a file at once."""

from fl_core.config.load import load_config, to_plain, to_yaml
from fl_core.config.schema import Config

__all__ = ["Config", "load_config", "to_plain", "to_yaml"]
