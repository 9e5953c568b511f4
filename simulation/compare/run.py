"""Runs the strategies of a comparison: the same config with each of them and several seeds, a few runs at a time.

A comparison is a folder: one run folder a strategy and seed, and ``compare.csv``, ``compare.md``, ``compare.json`` and
``compare.png`` made of their events. Called again it goes on where it stopped: finished runs are used as they are,
interrupted ones resumed.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from fl_core.config import Config, load_config, to_plain
from fl_core.config.load import from_plain
from fl_core.data.partition import PartitionSpec
from fl_core.errors import ConfigError, RoundError, RunFolderError, StonecropError
from fl_core.own_code import described
from fl_core.registry import look_up
from fl_core.runlog import is_finished
from fl_core.storage import storage_error
from simulation.attacks.registry import ATTACKS
from simulation.compare.folder import name_of_run
from simulation.preflight import preflight
from simulation.run import CONFIG_FILE, resume, run
from simulation.workers import worker_pool

_SPLIT = re.compile(r",(?![^(]*\))")  # a comma outside parentheses
_NAMED = re.compile(r"(?P<name>[\w.:-]+)(?:\((?P<args>.*)\))?")


@dataclass(frozen=True)
class Cell:
    """One run of a comparison."""

    strategy: str
    seed: int
    config: Config
    folder: Path


def plan(config: Config, strategies: str, seeds: int, out: Path, overrides: Mapping[str, Any]) -> list[Cell]:
    """The runs of a comparison: ``strategies`` as "a,b(mu=0.1),package.module:Class".

    ``overrides`` replace sections or fields of sections of the config. The first seed is the config's own. A strategy
    that the config itself names has the config's arguments where none are given.

    Raises:
        ConfigError: a strategy cannot be read or built, or two are the same; all of them at once.
    """
    cells, problems, seen = [], [], set()
    for text in (part.strip() for part in _SPLIT.split(strategies)):
        if text in seen:
            problems.append(f"--strategies: expected each once, got {text} twice")
        seen.add(text)
        try:
            section = read_strategy(text, config)
            for number in range(seeds):
                plain = to_plain(config)
                plain["strategy"] = section
                plain = _merge(plain, overrides)
                seed = config.run.seed + number
                name = name_of_run(text, seed)
                plain["run"] |= {"name": name, "seed": seed, "out": str(out), "companion": None}
                cells.append(Cell(text, seed, from_plain(plain), out / name))
            preflight(cells[-1].config)
        except ConfigError as error:
            problems += [f"{text}: {problem}" for problem in error.problems]
    if problems:
        raise ConfigError(problems)
    return cells


def _merge(plain: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``plain`` with the fields of ``over`` in place of its own, section by section."""
    merged = dict(plain)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def read_partition(text: str) -> dict[str, Any]:
    """The fields of ``data.partition`` that "iid", "natural", "dirichlet:ALPHA" or "shards:COUNT" stand for.

    Raises:
        ConfigError: the text has another form.
    """
    kind, colon, value = text.partition(":")
    try:
        if kind == "dirichlet":
            return {"kind": kind, "alpha": float(value)}
        if kind == "shards":
            return {"kind": kind, "shards_per_client": int(value)}
    except ValueError:
        colon = "?"
    if colon or kind not in ("iid", "natural"):
        raise ConfigError(f"--partition: expected iid, natural, dirichlet:ALPHA or shards:COUNT, got {text!r}")
    return {"kind": kind} if kind == "iid" else to_plain(PartitionSpec())  # natural: of the others, nothing is left


def read_attack(text: str) -> dict[str, Any]:
    """The fields of ``simulation.attack`` that "name" or "name:CLIENTS" stands for; one client without a number.

    Raises:
        ConfigError: the text has another form, or there is no such attack.
    """
    name, colon, clients = text.partition(":")
    look_up("--attack", name, ATTACKS)
    if colon and not clients.isdigit():
        raise ConfigError(f"--attack: expected name or name:CLIENTS, got {text!r}")
    return {"name": name, "clients": int(clients) if colon else 1, "args": {}}


def read_strategy(text: str, config: Config) -> dict[str, Any]:
    """The section ``strategy`` that "name", "name(arg=1)" or "package.module:Class(arg=1)" stands for.

    Raises:
        ConfigError: the text has another form.
    """
    match = _NAMED.fullmatch(text)
    if match is None:
        raise ConfigError(f"--strategies: expected name, name(arg=value) or package.module:Class, got {text!r}")
    args: dict[str, Any] = {}
    for pair in filter(None, _SPLIT.split(match["args"] or "")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"--strategies: expected arg=value, got {pair!r}")
        args[key.strip()] = yaml.safe_load(value)
    name = match["name"]
    own = config.strategy.name or config.strategy.factory
    if name == own and match["args"] is None:
        args = dict(config.strategy.args)
    return {"name": None, "factory": name, "args": args} if ":" in name else {"name": name, "args": args}


def run_cells(cells: Sequence[Cell], workers: int) -> Generator[tuple[Cell, StonecropError | None], None, None]:
    """Finish all runs, ``workers`` processes at a time; gives each as it ends, with the error of one that failed.

    A run that fails costs the comparison that run alone, and is tried again when the comparison is called again.

    Raises:
        RunFolderError: a folder holds a run of another config.
    """
    for cell in cells:
        _check_same(cell)
    open_cells = [cell for cell in cells if not is_finished(cell.folder)]
    yield from ((cell, None) for cell in cells if cell not in open_cells)
    if workers <= 1 or len(open_cells) <= 1:
        yield from ((cell, finish_cell(cell)) for cell in open_cells)
        return
    with worker_pool(min(workers, len(open_cells))) as pool:
        futures = {pool.submit(finish_cell, cell): cell for cell in open_cells}
        yield from ((futures[future], _error_of(future)) for future in as_completed(futures))


def finish_cell(cell: Cell) -> StonecropError | None:
    """Run one cell, or go on with it; gives the error that stopped it, whatever it was, as one for people."""
    try:
        if (cell.folder / CONFIG_FILE).is_file():
            resume(cell.folder)
        else:
            run(cell.config)
    except StonecropError as error:
        return error
    except OSError as error:
        return storage_error(error)
    except (Exception, SystemExit) as error:  # in a strategy, say: the other runs are none of its business
        return StonecropError(described(error))
    return None


def _error_of(ended: Future[StonecropError | None]) -> StonecropError | None:
    try:
        return ended.result()
    except BrokenExecutor as error:
        return RoundError(f"the process of this run, or of one beside it, died or could not start ({error})")


def refuse_failed(failed: Mapping[str, StonecropError]) -> None:
    """Return where no run failed; ``failed`` has the errors by the names of the runs.

    Raises:
        StonecropError: of the kind that the first run met, with the reasons of each by its name.
    """
    if failed:
        kind = type(next(iter(failed.values())))
        raise kind([f"{name}: {problem}" for name, error in failed.items() for problem in error.problems])


def _check_same(cell: Cell) -> None:
    path = cell.folder / CONFIG_FILE
    if path.is_file() and _decisive(load_config(path)) != _decisive(cell.config):
        raise RunFolderError(f"{cell.folder}: holds a run of another config; choose another --out or delete it")


def _decisive(config: Config) -> dict[str, Any]:
    """The config without where its results go."""
    return to_plain(replace(config, run=replace(config.run, out="")))
