"""The files of the house and what stands in them, for the tests of its rules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("fl_core", "fl_server", "fl_client", "strategies", "simulation")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    """The path of a file from the root of the repository."""
    return str(path.relative_to(ROOT))


@cache
def tree_of(path: Path) -> ast.Module:
    """A Python file as a syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def module_of(path: Path) -> str:
    """The dotted name by which a file of a package is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def functions_of(path: Path) -> Iterator[Function]:
    """All functions and methods of a file, nested ones too."""
    return (node for node in ast.walk(tree_of(path)) if isinstance(node, Function))


def docstrings_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every docstring: of the module, of classes and functions, and the one below an assignment."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Module | ast.ClassDef | Function):
            text = ast.get_docstring(node)
            if text is not None:
                yield node.body[0].lineno, text
        body = getattr(node, "body", [])
        for before, after in pairwise(body) if isinstance(body, list) else ():
            if isinstance(before, ast.Assign | ast.AnnAssign) and isinstance(after, ast.Expr):
                value = after.value
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield after.lineno, value.value


def is_private(name: str) -> bool:
    """Whether a name is private to its module or class: one underscore, and not two."""
    return name.startswith("_") and not name.startswith("__") and len(name) > 1
