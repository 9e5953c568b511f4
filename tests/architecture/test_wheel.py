"""What a wheel of this project holds, from pyproject.toml and the files on disk: nothing that runs is left behind."""

from __future__ import annotations

import ast
import importlib
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]
DATA = SETUPTOOLS["package-data"]
PACKAGES = sorted({pattern.rstrip("*") for pattern in SETUPTOOLS["packages"]["find"]["include"]})
ENTRY_POINTS = [
    *PROJECT["project"]["scripts"].values(),
    *(target for group in PROJECT["project"]["entry-points"].values() for target in group.values()),
    *PROJECT["tool"]["flwr"]["app"]["components"].values(),
]


def files(kept: bool) -> list[Path]:
    """Python files of the packages, or all others, relative to the root."""
    found = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file())
    return sorted(
        path.relative_to(ROOT) for path in found if "__pycache__" not in path.parts and (path.suffix == ".py") == kept
    )


def shipped(path: Path) -> bool:
    """Whether package-data names this file: a pattern counts from the folder of its package."""
    for package, patterns in DATA.items():
        folders = [path.parent] if package == "*" else [Path(*package.split("."))]
        for folder in folders:
            if path.is_relative_to(folder) and any(fnmatch(str(path.relative_to(folder)), one) for one in patterns):
                return True
    return False


@pytest.mark.parametrize("path", files(kept=False), ids=str)
def test_every_file_that_is_no_python_is_in_the_wheel(path: Path) -> None:
    assert shipped(path), f"expected a pattern of [tool.setuptools.package-data] for {path}"


def test_every_pattern_finds_a_file() -> None:
    for package, patterns in DATA.items():
        if package != "*":
            assert all(any((ROOT / package.replace(".", "/")).glob(pattern)) for pattern in patterns), package


def test_every_folder_with_code_is_a_package() -> None:
    """A folder without __init__.py is found by tests that run here, and is missing from the wheel."""
    assert {path.parent for path in files(kept=True)} == {
        path.parent for path in files(kept=True) if path.name == "__init__.py"
    }


def test_files_that_code_reads_beside_itself_are_there() -> None:
    """``Path(__file__).with_name("x")`` names a file or folder of the same package."""
    named = {
        path.parent / node.args[0].value
        for path in files(kept=True)
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "with_name"
        and "__file__" in ast.unparse(node.func.value)
        and isinstance(node.args[0], ast.Constant)
    }
    assert {"fleet.yaml", "templates", "collected.py"} <= {path.name for path in named}
    for path in named:
        inside = [path] if (ROOT / path).is_file() else [each for each in files(kept=False) if path in each.parents]
        assert inside, path
        assert all(each.suffix == ".py" or shipped(each) for each in inside), path


@pytest.mark.parametrize("target", ENTRY_POINTS)
def test_every_entry_point_leads_somewhere(target: str) -> None:
    module, _, name = target.partition(":")
    loaded = importlib.import_module(module)
    assert not name or hasattr(loaded, name)
    assert module.partition(".")[0] in PACKAGES


def test_what_is_called_typed_says_so_in_every_package() -> None:
    assert "Typing :: Typed" in PROJECT["project"]["classifiers"]
    assert all((ROOT / package / "py.typed").is_file() for package in PACKAGES)
