"""Reads a config: YAML, its base files, dot-list overrides; and checks all of it before anything starts.

OmegaConf does the merging and the interpolation, pydantic the types. ``load_config`` raises one ConfigError that
names every problem at once, and for an unknown key the nearest known one.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError
from yaml import YAMLError

from fl_core.config.problems import UNKNOWN_FIELD, described
from fl_core.config.schema import Config
from fl_core.config.walk import is_section, is_text, no_numbers, sections_with, unknown_keys
from fl_core.errors import ConfigError

logger = logging.getLogger(__name__)

EXTENDS = "extends"
COMPANION, FORMER_COMPANION = "companion", "beside"
"""The field of ``run`` that names a companion run, and what it was called before."""


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read ``path``, merge its base files below it and ``key=value`` overrides above it.

    Raises:
        ConfigError: with every problem found; nothing has been started.
    """
    return from_plain(read_plain(path, overrides))


def read_plain(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The merged and resolved values of a config, not checked yet.

    Raises:
        ConfigError: a file cannot be read, or an override is none.
    """
    tree = _read_tree(Path(path), seen=())
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"override {override!r}: expected key=value")
    try:
        for override in overrides:
            tree = _overridden(tree, override)
        plain = OmegaConf.to_container(tree, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {str(error).splitlines()[0]}") from None
    return cast("dict[str, Any]", plain)


def from_plain(plain: Mapping[str, Any]) -> Config:
    """Build a Config from plain values (a resolved YAML file, a plan)."""
    problems = [_describe_unknown(key, known) for key, known in unknown_keys(plain, Config)]
    problems += (said := [f"{where}: {problem}" for where, problem in no_numbers(plain, Config)])
    try:
        config = TypeAdapter(Config).validate_python(plain)
    except ValidationError as error:
        told = tuple(text.partition(": ")[0] for text in said)
        found = [text for code, text in described(error) if code != UNKNOWN_FIELD]
        problems += [text for text in found if not (told and text.startswith(told))]
    else:
        if not problems:
            return config
    raise ConfigError(list(dict.fromkeys(problems)))


def to_plain(config: object) -> dict[str, Any]:
    """A config or one section as plain dicts, lists and scalars."""
    return cast("dict[str, Any]", TypeAdapter(type(config)).dump_python(config, mode="json"))


def to_yaml(config: Config) -> str:
    """The resolved config as YAML, which ``load_config`` reads back to an equal one."""
    return OmegaConf.to_yaml(OmegaConf.create(to_plain(config)))


def _read_tree(path: Path, seen: tuple[Path, ...]) -> DictConfig:
    resolved = path.resolve()
    if resolved in seen:
        raise ConfigError(f"{path}: {EXTENDS} goes in a circle: {' -> '.join(p.name for p in (*seen, resolved))}")
    try:
        tree = OmegaConf.load(path)
    except (FileNotFoundError, IsADirectoryError) as error:
        where = f"{seen[-1].name}: {EXTENDS}" if seen else "config"
        is_what = "is a folder" if isinstance(error, IsADirectoryError) else "does not exist"
        raise ConfigError(f"{where}: expected a file, got {str(path)!r}, which {is_what}") from None
    except (OSError, YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}") from None
    if not isinstance(tree, DictConfig):
        raise ConfigError(f"{path}: expected sections by name, got {type(OmegaConf.to_container(tree)).__name__}")
    renamed = _rename_companion(tree, str(path))
    companion = OmegaConf.select(tree, f"run.{COMPANION}")
    if companion is not None:
        tree.run.companion = str(path.parent / str(companion))
        if renamed:  # a config that a run resolved has the field, null as it is, without anybody having asked for it
            _tell_renamed(str(path))
    base = tree.pop(EXTENDS, None)
    if base is None:
        return tree
    below = _read_tree(path.parent / str(base), (*seen, resolved))
    _drop_args(below, tree)
    return cast(DictConfig, OmegaConf.merge(below, tree))


def _overridden(tree: DictConfig, override: str) -> DictConfig:
    """A tree with one ``key=value`` above it; a mapping that is no section takes the place of the one that is there."""
    key, _, words = override.partition("=")
    over = OmegaConf.from_dotlist([override])
    value = OmegaConf.select(over, key)
    if is_text(key, Config) and isinstance(value, (bool, int, float)):
        OmegaConf.update(over, key, words)  # the user's own words, where YAML makes something else of them
    if isinstance(value, DictConfig) and not is_section(key, Config):
        OmegaConf.update(tree, key, {}, merge=False, force_add=True)
    if _rename_companion(over, "override"):
        _tell_renamed("override")
    return cast(DictConfig, OmegaConf.merge(tree, over))


def _drop_args(base: DictConfig, above: DictConfig) -> None:
    """Take the arguments of what ``above`` names anew out of the base: they belong to what was named there."""
    for section, stated in above.items():
        renamed = isinstance(stated, DictConfig) and "args" in stated and {"name", "factory"} & {*stated}
        if renamed and OmegaConf.select(base, f"{section!s}.args") is not None:
            OmegaConf.update(base, f"{section!s}.args", {}, merge=False)


def _rename_companion(tree: DictConfig, where: str) -> bool:
    """Give ``run.beside`` the name that it has now; gives whether it was there.

    Raises:
        ConfigError: both names are there.
    """
    run = OmegaConf.select(tree, "run")
    if not isinstance(run, DictConfig) or FORMER_COMPANION not in run:
        return False
    if COMPANION in run:
        raise ConfigError(f"{where}: run.{FORMER_COMPANION} is run.{COMPANION}; expected one of the two, got both")
    run[COMPANION] = run.pop(FORMER_COMPANION)
    return True


@cache
def _tell_renamed(where: str) -> None:
    """Say once for each file that it has an old name."""
    logger.warning("%s: run.%s is called run.%s now", where, FORMER_COMPANION, COMPANION)


def _describe_unknown(key: str, known: list[str]) -> str:
    prefix, _, name = key.rpartition(".")
    homes = [] if prefix else [f"{section}.{name}" for section in sections_with(name, Config)]
    if homes:
        return f"{key}: unknown key; did you mean {' or '.join(homes)}?"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    dotted = f"{prefix}.{near[0]}" if prefix and near else (near[0] if near else "")
    hint = f"did you mean {dotted}?" if near else f"known here: {', '.join(sorted(known))}"
    return f"{key}: unknown key; {hint}"
