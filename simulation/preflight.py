"""Everything that is wrong with a config, found before anything starts, and an outline of what it would run.

Problems are collected over three layers: keys and values of the file, names and factories, and whatever the parts say
when they are built. A problem in one section does not hide those of another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fl_client.trainer import size_class
from fl_core import __version__
from fl_core.assemble import federation_of, trainable_tensors
from fl_core.config import Config, to_plain
from fl_core.config.load import from_plain, read_plain
from fl_core.data.datasets import DATASETS
from fl_core.errors import ConfigError, DataError
from fl_core.export.registry import build_exporter
from fl_core.models import MODELS
from fl_core.registry import load_callable, look_up
from fl_core.tasks import TASKS
from fl_core.types import ClientInfo
from fl_server.setup import Setup
from simulation.attacks.registry import poisoned
from strategies.registry import build_strategy, known_strategies


@dataclass(frozen=True)
class RunOutline:
    """What a config would run."""

    config: Config
    clients: int
    examples: int
    parameters: int
    rounds: int
    privacy: dict[str, Any] | None
    formats: tuple[str, ...]


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


def validate(path: str | Path, overrides: Sequence[str] = ()) -> RunOutline:
    """What the config at ``path`` would run; nothing is started.

    Raises:
        ConfigError: with every problem found in the file, in what it names and in the config that runs beside it.
        StonecropError: whatever else would stop the run.
    """
    problems: list[str] = []
    outline: RunOutline | None = None
    try:
        outline = preflight(load_checked(path, overrides))
    except ConfigError as error:
        problems += error.problems
    run = read_plain(path, overrides).get("run")
    beside = run.get("beside") if isinstance(run, Mapping) else None
    if isinstance(beside, str):
        try:
            preflight(load_checked(beside))
        except ConfigError as error:
            problems += [f"run.beside {beside}: {problem}" for problem in error.problems]
    if problems or outline is None:
        raise ConfigError(problems)
    return outline


def preflight(config: Config) -> RunOutline:
    """Build everything that a run needs and start nothing.

    Raises:
        ConfigError: all problems of names, strategy and data at once.
        StonecropError: whatever else would stop the run.
    """
    checks: list[Callable[[], object]] = [*_name_checks(to_plain(config)), partial(_build_strategy, config)]
    problems = list(dict.fromkeys(_problems_of(checks)))
    try:
        federation = federation_of(config)
        poisoned(config, federation)
        setup = Setup.of(config, federation)
    except ConfigError as error:
        raise ConfigError(list(dict.fromkeys([*problems, *error.problems]))) from None
    if problems:
        raise ConfigError(problems)
    if not federation.clients:
        raise DataError("data: expected at least one client to simulate, got none")
    tensors = trainable_tensors(setup.model)
    infos = [ClientInfo(name, size_class(len(c.train)), __version__, True) for name, c in federation.clients.items()]
    return RunOutline(
        config=config,
        clients=len(federation.clients),
        examples=sum(len(client.train) for client in federation.clients.values()),
        parameters=sum(t.size for t in tensors.values()),
        rounds=config.run.rounds,
        privacy=setup.describe_privacy(infos),
        formats=config.export.formats,
    )


def _build_strategy(config: Config) -> None:
    build_strategy(config.strategy.name, config.strategy.factory, config.strategy.args)


def _name_checks(plain: Mapping[str, Any]) -> list[Callable[[], object]]:
    """A check for each name and each factory of a config, which may be wrong in other ways."""
    tables: Mapping[str, Mapping[str, object]] = {
        "data": DATASETS,
        "task": TASKS,
        "model": MODELS,
        "strategy": known_strategies(),
    }
    checks: list[Callable[[], object]] = []
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
        checks += [partial(build_exporter, name) for name in formats if isinstance(name, str)]
    return checks


def _problems_of(checks: Iterable[Callable[[], object]]) -> Iterable[str]:
    for check in checks:
        try:
            check()
        except ConfigError as error:
            yield from error.problems
