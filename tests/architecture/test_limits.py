"""The measures of the house: how long a file and a function may be, how many arguments it takes, who imports whom."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from support.house import (
    BENCHMARKS,
    PACKAGES,
    ROOT,
    SOURCES,
    TESTS,
    Function,
    functions_of,
    module_of,
    name_of,
    tree_of,
)

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 45
MAX_ARGUMENTS = 7


@pytest.mark.parametrize("path", SOURCES + TESTS + BENCHMARKS, ids=name_of)
def test_a_file_has_at_most_300_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES


@pytest.mark.parametrize("path", SOURCES + BENCHMARKS, ids=name_of)
def test_a_function_has_at_most_45_lines(path: Path) -> None:
    long = [
        node.name
        for node in functions_of(path)
        if (node.end_lineno or node.lineno) - node.lineno + 1 > MAX_FUNCTION_LINES
    ]
    assert long == []


@pytest.mark.parametrize("path", SOURCES + BENCHMARKS, ids=name_of)
def test_a_function_takes_at_most_7_arguments(path: Path) -> None:
    wide = [
        node.name for node in functions_of(path) if len(arguments_of(node)) > MAX_ARGUMENTS and not is_command(node)
    ]
    assert wide == []


def test_modules_import_each_other_in_no_circle() -> None:
    modules = {module_of(path): path for path in SOURCES}
    graph = {name: set(imported_by(path, modules)) - {name} for name, path in modules.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"expected no circle, got {' <- '.join(error.args[1])}")


def test_unit_tests_mirror_the_packages() -> None:
    unit = ROOT / "tests" / "unit"
    folders = {path.parent.relative_to(unit) for path in unit.rglob("*.py")} - {Path("benchmarks")}
    packages = {path.parent.relative_to(ROOT) for path in SOURCES}
    assert sorted(map(str, folders - packages)) == []


def test_every_test_file_lies_in_a_folder_of_its_kind() -> None:
    kinds = ("architecture", "conformance", "integration", "property", "unit")
    tests = [path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")]
    assert [str(path) for path in tests if path.parts[0] not in kinds or path.parent == Path("unit")] == []
    assert [name_of(path) for package in PACKAGES for path in (ROOT / package).rglob("test_*.py")] == []


def arguments_of(node: Function) -> list[str]:
    """The arguments that a caller gives: neither self nor cls."""
    given = node.args
    names = [each.arg for each in (*given.posonlyargs, *given.args)]
    own = names[1:] if names[:1] in (["self"], ["cls"]) else names
    rest = [each.arg for each in (given.vararg, given.kwarg) if each is not None]
    return [*own, *(each.arg for each in given.kwonlyargs), *rest]


def is_command(node: Function) -> bool:
    """Whether typer makes a command of the function: its arguments are the command's options."""
    return any(
        isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute) and each.func.attr == "command"
        for each in node.decorator_list
    )


def imported_by(path: Path, modules: dict[str, Path]) -> Iterator[str]:
    """The modules that a file imports, inside functions too; not those that it imports for its annotations alone."""
    waiting: list[ast.AST] = [tree_of(path)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                named = f"{node.module}.{alias.name}"
                yield from (name for name in (named if named in modules else node.module or "",) if name in modules)
