"""Everything that is wrong with a config, found before anything starts: what simulation and server have in common.

Problems are collected over three layers: keys and values of the file, names and factories, and whatever the parts say
when they are built. A problem in one section does not hide those of another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fl_core.config import Config, to_plain
from fl_core.config.federation import federation_of
from fl_core.config.load import from_plain, read_plain
from fl_core.data.datasets import DATASETS
from fl_core.data.federation import Federation
from fl_core.errors import ConfigError, StonecropError
from fl_core.export.registry import FormatSection, build_exporter
from fl_core.models import MODELS
from fl_core.registry import load_callable, look_up
from fl_core.tasks import TASKS
from fl_server.plan.setup import Setup
from strategies.registry import build_strategy, known_strategies

Check = Callable[[], object]
"""Raises ConfigError where something is wrong."""


def load_checked(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """A config from its file, as ``load_config`` reads it.

    Raises:
        ConfigError: with every problem of its keys and values, and of the names and factories in it.
    """
    plain = read_plain(path, overrides)
    try:
        return from_plain(plain)
    except ConfigError as error:
        raise ConfigError([*error.problems, *_problems_of(_name_checks(plain))]) from None


def checked_setup(config: Config, inspect: Callable[[Federation], object] | None = None) -> tuple[Federation, Setup]:
    """Build everything that a run needs and start nothing; ``inspect`` may refuse the data.

    Raises:
        ConfigError: all problems of names, strategy and data at once.
        StonecropError: whatever else would stop the run.
    """
    checks: list[Check] = [*_name_checks(to_plain(config)), partial(_build_strategy, config)]
    problems = list(dict.fromkeys(_problems_of(checks)))
    try:
        federation = federation_of(config)
        if inspect is not None:
            inspect(federation)
        setup = Setup.of(config, federation)
    except StonecropError as error:
        if not problems:
            raise
        raise ConfigError(list(dict.fromkeys([*problems, *error.problems]))) from None
    if problems:
        raise ConfigError(problems)
    return federation, setup


def _build_strategy(config: Config) -> None:
    build_strategy(config.strategy.name, config.strategy.factory, config.strategy.args)


def _name_checks(plain: Mapping[str, Any]) -> list[Check]:
    """A check for each name and each factory of a config, which may be wrong in other ways."""
    tables: Mapping[str, Mapping[str, object]] = {
        "data": DATASETS,
        "task": TASKS,
        "model": MODELS,
        "strategy": known_strategies(),
    }
    checks: list[Check] = []
    for section, table in tables.items():
        chosen = plain.get(section)
        name, factory = (chosen.get("name"), chosen.get("factory")) if isinstance(chosen, Mapping) else (None, None)
        if isinstance(factory, str):
            checks.append(partial(load_callable, factory, f"{section}.factory"))
        elif isinstance(name, str):
            checks.append(partial(look_up, f"{section}.name", name, table))
    export = plain.get("export")
    formats = export.get("formats") if isinstance(export, Mapping) else None
    if isinstance(formats, Sequence) and not isinstance(formats, str):
        checks += [partial(build_exporter, format) for format in map(_stated_format, formats) if format is not None]
    return checks


def _stated_format(plain: object) -> str | FormatSection | None:
    """A format of an unchecked config; None where what stands there is none."""
    if isinstance(plain, Mapping) and isinstance(plain.get("name"), str):
        args = plain.get("args")
        return FormatSection(plain["name"], args if isinstance(args, Mapping) else {})
    return plain if isinstance(plain, str) else None


def _problems_of(checks: Iterable[Check]) -> Iterator[str]:
    for check in checks:
        try:
            check()
        except ConfigError as error:
            yield from error.problems
