"""What a config would run in a simulation: everything that is wrong with it is said, and nothing is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fl_client.trainer.task import size_class
from fl_core import __version__
from fl_core.config import Config
from fl_core.config.load import read_plain
from fl_core.data.federation import Federation
from fl_core.data.fingerprint import fingerprint
from fl_core.errors import ConfigError, DataError
from fl_core.export.registry import format_name
from fl_core.findings import Finding
from fl_core.types import ClientInfo
from fl_server.plan.checks import check_clients, check_delta
from fl_server.plan.describe import describe_privacy
from fl_server.plan.private_terms import check_private_terms
from fl_server.plan.user_privacy import describe_user_privacy
from fl_server.plan.validate import checked_setup, load_checked
from simulation.attacks.registry import poisoned


@dataclass(frozen=True)
class RunOutline:
    """What a config would run."""

    config: Config
    clients: int
    examples: int
    parameters: int
    rounds: int
    privacy: dict[str, Any] | None
    user_privacy: dict[str, Any] | None
    """The guarantee for whole clients that the server adds noise for."""
    formats: tuple[str, ...]
    findings: tuple[Finding, ...]
    """What a person should know of the run before it starts."""
    data: Mapping[str, str]
    """Digests of the data, by its owner."""


def validate(path: str | Path, overrides: Sequence[str] = ()) -> RunOutline:
    """What the config at ``path`` would run; nothing is started.

    Raises:
        ConfigError: with every problem found in the file, in what it names and in the config of its companion.
        StonecropError: whatever else would stop the run.
    """
    problems: list[str] = []
    outline: RunOutline | None = None
    try:
        outline = preflight(load_checked(path, overrides))
    except ConfigError as error:
        problems += error.problems
    run = read_plain(path, overrides).get("run")
    companion = run.get("companion") if isinstance(run, Mapping) else None
    if isinstance(companion, str):
        try:
            preflight(load_checked(companion))
        except ConfigError as error:
            problems += [f"run.companion {companion}: {problem}" for problem in error.problems]
    if problems or outline is None:
        raise ConfigError(problems)
    return outline


def preflight(config: Config) -> RunOutline:
    """Build everything that a run needs and start nothing.

    Raises:
        ConfigError: all problems of names, strategy and data at once.
        StonecropError: whatever else would stop the run.
    """
    federation, setup = checked_setup(config, partial(poisoned, config))
    if not federation.clients:
        raise DataError("data: expected at least one client to simulate, got none")
    check_clients(config, setup.strategy, len(federation.clients))
    _check_widths(config, federation)
    _check_cohort(config, federation)
    infos = [ClientInfo(name, size_class(len(c.train)), __version__, True) for name, c in federation.clients.items()]
    check_delta(config, infos)
    check_private_terms(config, infos)
    tensors = setup.initial_state().model
    return RunOutline(
        config=config,
        clients=len(federation.clients),
        examples=sum(len(client.train) for client in federation.clients.values()),
        parameters=sum(t.size for t in tensors.values()),
        rounds=config.run.rounds,
        privacy=describe_privacy(setup, infos),
        user_privacy=describe_user_privacy(setup),
        formats=tuple(format_name(format) for format in config.export.formats),
        findings=setup.findings,
        data=fingerprint(federation),
    )


def _check_cohort(config: Config, federation: Federation) -> None:
    wanted, there = config.clients.per_round, len(federation.clients)
    if wanted is not None and wanted > there:
        raise ConfigError(f"clients.per_round: expected at most {there}, the clients of this data set, got {wanted}")


def _check_widths(config: Config, federation: Federation) -> None:
    unknown = sorted(config.quant.client_bits.keys() - federation.clients.keys())
    if unknown:
        raise ConfigError(
            f"quant.client_bits: expected clients of this data set ({', '.join(sorted(federation.clients))}), "
            f"got {', '.join(unknown)}"
        )
