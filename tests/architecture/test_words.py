"""The words of the house: one name for one thing, docstrings that are understood alone, and names that stay private."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from support.house import BENCHMARKS, SOURCES, TESTS, Function, docstrings_of, is_private, name_of, tree_of

LEANING = re.compile(r"(Of|See|Likewise)\b|(The|In the) same\b|As (above|below|before|there)\b")
"""How a docstring opens that cannot be understood without the one before it, or without another file."""
AVOIDED = re.compile(r"\b(returns|because|currently)\b")


def test_no_name_of_a_class_or_type_stands_for_two_things() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for path in SOURCES + BENCHMARKS:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(f"{name_of(path)}:{node.lineno}")
        for name in aliases_of(path):
            found[name].append(name_of(path))
    twice = {name: places for name, places in found.items() if len(places) > 1}
    assert twice == {}


def test_no_public_constant_has_two_values() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for path in SOURCES:
        for name in constants_of(path):
            found[name].append(name_of(path))
    twice = {name: places for name, places in found.items() if len(places) > 1}
    assert twice == {}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_docstring_is_understood_alone(path: Path) -> None:
    leaning = [f"{line}: {text.splitlines()[0]}" for line, text in docstrings_of(path) if LEANING.match(text)]
    avoided = [f"{line}: {word}" for line, text in docstrings_of(path) for word in AVOIDED.findall(text)]
    assert leaning + avoided == []


@pytest.mark.parametrize("path", TESTS + BENCHMARKS, ids=name_of)
def test_tests_and_benchmarks_reach_for_no_private_name(path: Path) -> None:
    reached = [f"{line}: {what}" for line, what in reached_by(path, private_names() - private_names_of(path))]
    assert reached == []


def constants_of(path: Path) -> Iterator[str]:
    """The public constants of a module, by name."""
    return (name for name in assigned_in(path) if name.isupper())


def aliases_of(path: Path) -> Iterator[str]:
    """The names that a module gives to types, but not to the options of a command: a command has its own help."""
    if path.name in ("cli.py", "commands.py"):
        return
    yield from (name for name in assigned_in(path) if name[0].isupper() and not name.isupper())


def assigned_in(path: Path) -> Iterator[str]:
    """The public names that a module assigns at its top."""
    for node in tree_of(path).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            if isinstance(target, ast.Name) and not target.id.startswith("_"):
                yield target.id


@cache
def private_names() -> set[str]:
    """The private names of all packages and benchmarks."""
    return set().union(*(private_names_of(path) for path in SOURCES + BENCHMARKS))


@cache
def private_names_of(path: Path) -> set[str]:
    """The private names that a file defines: functions, classes, variables, and attributes set on self."""
    found: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, Function | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
            found.add(node.attr)
    return {name for name in found if is_private(name)}


def reached_by(path: Path, private: set[str]) -> Iterator[tuple[int, str]]:
    """Line and text of each place where a file takes one of these names from another module or object."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, alias.name) for alias in node.names if is_private(alias.name))
        elif isinstance(node, ast.Attribute) and node.attr in private and not is_self(node.value):
            yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Call | ast.Subscript) and takes_by_name(node):
            given = node.args if isinstance(node, ast.Call) else [node.slice]
            words = [each.value for each in given if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            yield from ((node.lineno, word) for word in words if word.rpartition(".")[2] in private)


def takes_by_name(node: ast.Call | ast.Subscript) -> bool:
    """Whether a node takes an attribute by a text: getattr, monkeypatch.setattr and the like, or vars(module)[...]."""
    if isinstance(node, ast.Subscript):
        return isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "vars"
    return ast.unparse(node.func).rpartition(".")[2] in ("getattr", "setattr", "hasattr", "delattr")


def is_self(node: ast.AST) -> bool:
    """Whether a node is a method's own object."""
    return isinstance(node, ast.Name) and node.id in ("self", "cls")
