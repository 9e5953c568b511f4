"""Strategies beside each other: the same config with each of them and several seeds, a few runs at a time.

A comparison is a folder: one run folder a strategy and seed, and ``compare.csv``, ``compare.md``, ``compare.json`` and
``compare.png`` made of their events. Called again it goes on where it stopped: finished runs are used as they are,
interrupted ones resumed. A figure over seeds is their mean; where a seed never reached the target there is none.
"""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import yaml

from fl_core.config import Config, load_config, to_plain
from fl_core.config.load import from_plain
from fl_core.errors import ConfigError, RunFolderError
from fl_core.registry import look_up
from fl_core.runlog import Event, is_finished, read_events
from fl_server.report import series
from simulation.attacks.registry import ATTACKS
from simulation.preflight import preflight
from simulation.run import CONFIG_FILE, resume, run

TARGET_SHARE = 0.95
"""The target where none is named: this share of the best strategy's final accuracy."""
ACCURACIES = ("accuracy_int8", "accuracy_fake_quant", "accuracy_float")
_SPLIT = re.compile(r",(?![^(]*\))")  # a comma outside parentheses
_NAMED = re.compile(r"(?P<name>[\w.:-]+)(?:\((?P<args>.*)\))?")


@dataclass(frozen=True)
class Cell:
    """One run of a comparison."""

    strategy: str
    seed: int
    config: Config
    folder: Path


@dataclass(frozen=True)
class Row:
    """The figures of one strategy, over its seeds; None where a figure does not exist."""

    strategy: str
    seeds: int
    accuracy: float | None
    """At the end: of the artefact, else with fake quantisation, else float."""
    accuracy_spread: float | None
    """Sample standard deviation over the seeds."""
    rounds_to_target: float | None
    bytes_to_target: float | None
    """Up and down, over all clients."""
    worst_client: float | None
    """Lowest final accuracy of any client on its own held-out examples, averaged over the seeds."""
    personal: float | None
    """Mean over the clients of the last score of their own models, for a strategy that gives them some."""


@dataclass(frozen=True)
class Curve:
    """Accuracy by round, of every seed of a strategy."""

    strategy: str
    seeds: tuple[tuple[tuple[int, float], ...], ...]


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
                name = f"{re.sub(r'[^A-Za-z0-9.]+', '-', text).strip('-.')}-seed{config.run.seed + number}"
                plain["run"] |= {"name": name, "seed": config.run.seed + number, "out": str(out), "beside": None}
                cells.append(Cell(text, config.run.seed + number, from_plain(plain), out / name))
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
    return {"kind": kind}


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


def run_cells(cells: Sequence[Cell], workers: int) -> Iterator[Cell]:
    """Finish all runs, ``workers`` processes at a time; gives each as it is done.

    Raises:
        RunFolderError: a folder holds a run of another config.
    """
    for cell in cells:
        _check_same(cell)
    open_cells = [cell for cell in cells if not is_finished(cell.folder)]
    yield from (cell for cell in cells if cell not in open_cells)
    if workers <= 1 or len(open_cells) <= 1:
        for cell in open_cells:
            finish_cell(cell)
            yield cell
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(open_cells)), mp_context=context) as pool:
        futures = {pool.submit(finish_cell, cell): cell for cell in open_cells}
        try:
            for future in as_completed(futures):
                future.result()
                yield futures[future]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def finish_cell(cell: Cell) -> None:
    """Run one cell, or go on with it."""
    if (cell.folder / CONFIG_FILE).is_file():
        resume(cell.folder)
    else:
        run(cell.config)


def _check_same(cell: Cell) -> None:
    path = cell.folder / CONFIG_FILE
    if path.is_file() and _decisive(load_config(path)) != _decisive(cell.config):
        raise RunFolderError(f"{cell.folder}: holds a run of another config; choose another --out or delete it")


def _decisive(config: Config) -> dict[str, Any]:
    """The config without where its results go."""
    return to_plain(replace(config, run=replace(config.run, out="")))


def tabulate(cells: Sequence[Cell], target: float | None = None) -> tuple[list[Row], float]:
    """The figures of finished runs, best accuracy first, and the target that they are measured against."""
    events = {cell.folder: list(read_events(cell.folder)) for cell in cells}
    names = list(dict.fromkeys(cell.strategy for cell in cells))
    runs = {name: [events[cell.folder] for cell in cells if cell.strategy == name] for name in names}
    finals = {name: [_last(accuracies(each)) for each in found] for name, found in runs.items()}
    means = {name: _mean(values) for name, values in finals.items()}
    if target is None:
        target = TARGET_SHARE * max((mean for mean in means.values() if mean is not None), default=0.0)
    rows = [
        Row(
            strategy=name,
            seeds=len(found),
            accuracy=means[name],
            accuracy_spread=_spread(finals[name]),
            rounds_to_target=_mean([rounds_to(each, target) for each in found]),
            bytes_to_target=_mean([bytes_to(each, target) for each in found]),
            worst_client=_mean([_worst(each) for each in found]),
            personal=_mean([_personal(each) for each in found]),
        )
        for name, found in runs.items()
    ]
    return sorted(rows, key=lambda row: -1.0 if row.accuracy is None else row.accuracy, reverse=True), target


def curves(cells: Sequence[Cell]) -> list[Curve]:
    """Accuracy by round, in the order of the strategies."""
    found: dict[str, list[tuple[tuple[int, float], ...]]] = {}
    for cell in cells:
        found.setdefault(cell.strategy, []).append(tuple(accuracies(list(read_events(cell.folder)))))
    return [Curve(name, tuple(seeds)) for name, seeds in found.items()]


def accuracies(events: Sequence[Event]) -> list[tuple[int, float]]:
    """(round, accuracy) after each round, the untrained model first; of the best form that the whole run has."""
    records = list(series.evaluations(events))
    for key in ACCURACIES:
        points = [(number, float(record[key])) for number, record in records if record.get(key) is not None]
        if points and points[-1][0] == series.rounds_done(events):
            return points
    return []


def rounds_to(events: Sequence[Event], target: float) -> float | None:
    """Rounds until the accuracy was first at least ``target``; None when it never was."""
    return next((float(number) for number, accuracy in accuracies(events) if accuracy >= target), None)


def bytes_to(events: Sequence[Event], target: float) -> float | None:
    """Bytes up and down until then."""
    rounds = rounds_to(events, target)
    if rounds is None:
        return None
    finished = [event for event in series.of_kind(events, "round_finished") if event["round"] <= rounds]
    return float(sum(event["uplink_bytes"] + event["downlink_bytes"] for event in finished))


def _worst(events: Sequence[Event]) -> float | None:
    rows = series.client_accuracies(events)
    return rows[0].accuracy if rows else None


def _personal(events: Sequence[Event]) -> float | None:
    last = {
        event["client_id"]: event["personal_score"]
        for event in series.of_kind(events, "client_trained")
        if event["personal_score"] is not None
    }
    return fmean(last.values()) if last else None


def _last(points: Sequence[tuple[int, float]]) -> float | None:
    return points[-1][1] if points else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _spread(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return stdev(known) if len(known) > 1 else None
