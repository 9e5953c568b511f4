"""Finding things by name: in a literal table, or as "package.module:callable" in the user's own code.

What a config names becomes a ``Maker``, and a maker that is called wrongly, or whose own code fails, says so in one
line with the config's field.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from fl_core.errors import ConfigError, StonecropError
from fl_core.own_code import own_code

T = TypeVar("T")
_MANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class Maker:
    """What a config names in ``section``: a row of a literal table, or a callable of the user's own."""

    section: str
    name: str
    make: Callable[..., Any]
    own: bool

    @property
    def field(self) -> str:
        """The field that names it."""
        return f"{self.section}.{'factory' if self.own else 'name'}"

    def __call__(
        self,
        args: Mapping[str, Any],
        given: Mapping[str, Any] | None = None,
        failure: type[StonecropError] = ConfigError,
    ) -> Any:
        """What it makes of the config's ``args`` and of what every maker of its kind is ``given``.

        Raises:
            ConfigError: it does not take these arguments, or one of ours refuses their values.
            StonecropError: a ``failure``, where the user's own code raised something; with file and line.
        """
        given = given or {}
        self._check(args, given)
        if self.own:
            with own_code(f"{self.field} {self.name}", failure):
                return self.make(**given, **args)
        try:
            return self.make(**given, **args)
        except (TypeError, ValueError) as error:
            raise ConfigError(self._in_its_field(str(error))) from error

    def _in_its_field(self, problem: str) -> str:
        """A constructor's words, which may open with a field, under the field of the config that holds its args."""
        named = f"{self.section.partition('.')[0]}.args."
        if problem.startswith(named):
            return f"{self.section}.args.{problem.removeprefix(named)}"
        return f"{self.section}.args: {self.name}: {problem}"

    def takes(self, name: str) -> bool:
        """Whether it has a parameter of that name."""
        signature = _signature(self.make)
        return signature is not None and name in signature.parameters

    def _check(self, args: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        """Refuse arguments that it does not take, before it is called.

        Raises:
            ConfigError: it takes others.
        """
        signature = _signature(self.make)
        if signature is None:
            return
        named = [each.name for each in signature.parameters.values() if each.kind not in _MANY]
        anything = any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())
        own = [name for name in named if name not in given]
        if given.keys() - set(named) and not anything:
            expected = (
                f"expected a callable that takes {' and '.join(given)} by keyword, got {', '.join(named) or 'none'}"
            )
            raise ConfigError(f"{self.field} {self.name}: {expected}")
        unknown = [key for key in args if key not in own]
        if unknown and not anything:
            expected = f"expected what {self.name} takes ({', '.join(own) or 'nothing'})"
            near = _nearest(str(unknown[0]), own)
            raise ConfigError(f"{self.section}.args: {expected}, got {', '.join(map(str, unknown))}{near}")
        try:
            signature.bind(**given, **args)
        except TypeError as error:
            raise ConfigError(f"{self.field} {self.name}: {error}, which the config does not give") from None


def find_maker(section: str, name: str | None, factory: str | None, table: Mapping[str, Callable[..., Any]]) -> Maker:
    """What a section of a config names: the row ``name`` of ``table``, or the user's own ``factory``.

    Raises:
        ConfigError: there is no such row, or no such callable.
    """
    if name is not None:
        return Maker(section, name, look_up(f"{section}.name", name, table), own=False)
    factory = factory or ""
    return Maker(section, factory, load_callable(factory, f"{section}.factory"), own=True)


def field_named(section: str, name: str | None, factory: str | None) -> str:
    """The field of a config that names something, and what stands in it, as "task.factory mine:Counting"."""
    return f"{section}.name {name}" if factory is None else f"{section}.factory {factory}"


def look_up(field: str, name: str, table: Mapping[str, T]) -> T:
    """The row ``name`` of a literal table of things that a config names in ``field``.

    Raises:
        ConfigError: there is no such row; the message names the nearest one and all there are.
    """
    if name in table:
        return table[name]
    raise ConfigError(f"{field}: expected one of {', '.join(sorted(table))}, got {name!r}{_nearest(name, table)}")


def load_callable(path: str, field: str) -> Callable[..., Any]:
    """The callable that "package.module:callable" names; modules in the working directory are found too.

    Raises:
        ConfigError: the text has another form, there is no such module, it fails on import, or nothing in it that can
            be called has that name.
    """
    module_name, colon, attribute = path.partition(":")
    if not colon or not all((*module_name.split("."), *attribute.split("."))):
        raise ConfigError(f'{field}: expected "package.module:callable", got {path!r}')
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    found: Any = _imported(module_name, field)
    for step in attribute.split("."):
        if not hasattr(found, step):
            own = [name for name in vars(found) if not name.startswith("_")] if hasattr(found, "__dict__") else []
            raise ConfigError(f"{field}: {module_name!r} has no {attribute!r}{_nearest(step, own)}")
        found = getattr(found, step)
    if not callable(found):
        raise ConfigError(f"{field}: expected a callable at {path!r}, got {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def _imported(module_name: str, field: str) -> ModuleType:
    parents = {module_name.rsplit(".", cut)[0] for cut in range(module_name.count(".") + 1)}
    with own_code(f"{field}: {module_name!r} fails on import", ConfigError):
        try:
            return importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name not in parents:  # it is there, and something that it needs is not
                raise
            near = _nearest(module_name, (path.stem for path in Path().glob("*.py")))
            where = f"in {os.getcwd()} or among the installed ones"
            raise ConfigError(f"{field}: there is no module {error.name!r} {where}{near}") from None


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def _signature(made_by: Callable[..., Any]) -> inspect.Signature | None:
    """The signature of a callable; None for those of C that do not say what they take."""
    try:
        return inspect.signature(made_by)
    except (TypeError, ValueError):
        return None
