"""Finding things by name: in a literal table, or as "package.module:callable" in the user's own code."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from fl_core.errors import ConfigError

T = TypeVar("T")


def look_up(field: str, name: str, table: Mapping[str, T]) -> T:
    """The row ``name`` of a literal table of things that a config names in ``field``.

    Raises:
        ConfigError: there is no such row; the message names the nearest one and all there are.
    """
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name, table, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"{field}: expected one of {', '.join(sorted(table))}, got {name!r}{hint}")


def load_callable(path: str, field: str) -> Callable[..., Any]:
    """The callable that "package.module:callable" names; modules in the working directory are found too.

    Raises:
        ConfigError: the text has another form, or the module or the name in it is not there.
    """
    module_name, colon, attribute = path.partition(":")
    if not colon or not module_name or not attribute:
        raise ConfigError(f'{field}: expected "package.module:callable", got {path!r}')
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
        for step in attribute.split("."):
            found = getattr(found, step)
    except ImportError as error:
        raise ConfigError(f"{field}: cannot import {module_name!r} ({error})") from error
    except AttributeError as error:
        raise ConfigError(f"{field}: module {module_name!r} has no {attribute!r} ({error})") from error
    if not callable(found):
        raise ConfigError(f"{field}: expected a callable at {path!r}, got {type(found).__name__}")
    return found  # type: ignore[no-any-return]
