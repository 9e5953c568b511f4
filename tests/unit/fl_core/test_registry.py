"""What a config names is found, or refused in one line with what is missing: a module, a name or an argument."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fl_core.errors import ConfigError, ModelError
from fl_core.registry import find_maker, load_callable
from fl_core.tasks import build_task

MODULES = {
    "own_good": "class Kind:\n    @staticmethod\n    def made(size, *, shape=3): return size, shape\n\nvalue = 3\n"
    "def anything(**args): return args\n",
    "own_needs": "import math\nimport no_such_module_anywhere\n",
    "own_syntax": "def f(:\n    pass\n",
    "own_fails": "table = {}\n\nvalue = table['absent']\n",
    "own_attribute": "import math\nmath.absent\ndef make(): pass\n",
    "own_quits": "import sys\nsys.exit('no data on this machine')\n",
}


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("own_good.Kind", r"expected \"package.module:callable\", got 'own_good.Kind'$"),
        ("own_good:", r"expected \"package.module:callable\""),
        ("own_god:Kind", r"there is no module 'own_god' in .*; did you mean 'own_good'\?$"),
        ("own_good.inner:Kind", r"there is no module 'own_good.inner'"),
        ("own_good:Knid", r"'own_good' has no 'Knid'; did you mean 'Kind'\?$"),
        ("own_good:Kind.mad", r"'own_good' has no 'Kind.mad'; did you mean 'made'\?$"),
        ("own_good:value", r"expected a callable at 'own_good:value', got int$"),
        ("own_needs:f", r"'own_needs' fails on import: ModuleNotFoundError: .*anywhere' \(own_needs.py, line 2\)$"),
        ("own_syntax:f", r"'own_syntax' fails on import: SyntaxError: .* \(own_syntax.py, line 1\)$"),
        ("own_fails:f", r"'own_fails' fails on import: KeyError: 'absent' \(own_fails.py, line 3\)$"),
        ("own_attribute:make", r"'own_attribute' fails on import: AttributeError: .* \(own_attribute.py, line 2\)$"),
        ("own_quits:f", r"'own_quits' fails on import: SystemExit: no data .* \(own_quits.py, line 2\)$"),
    ],
)
def test_what_cannot_be_loaded_says_what_is_missing(path: str, says: str) -> None:
    with pytest.raises(ConfigError, match=rf"^data\.factory: {says}"):
        load_callable(path, "data.factory")


def test_a_method_is_found_by_its_path() -> None:
    assert find_maker("data", None, "own_good:Kind.made", {})({"size": 1}) == (1, 3)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (
            {"size": 1, "shap": 2},
            r"^data\.args: expected what .* takes \(size, shape\), got shap; did you mean 'shape'",
        ),
        ({"shape": 1}, r"^data\.factory own_good:Kind\.made: missing a required argument: 'size'"),
        ({1: 2, "size": 1}, r"^data\.args: expected what .* takes \(size, shape\), got 1$"),
    ],
)
def test_arguments_are_looked_at_before_anything_is_called(args: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        find_maker("data", None, "own_good:Kind.made", {})(args)


def test_a_maker_that_does_not_take_what_all_are_given_is_told_what_that_is() -> None:
    with pytest.raises(
        ConfigError, match="expected a callable that takes input_shape and outputs by keyword, got size"
    ):
        find_maker("model", None, "own_good:Kind.made", {})({}, {"input_shape": (1,), "outputs": 2}, ModelError)
    assert find_maker("model", None, "own_good:anything", {})({"a": 1}, {"outputs": 2}) == {"a": 1, "outputs": 2}


def test_a_row_of_ours_that_refuses_a_value_is_the_configs_fault() -> None:
    def row(size: int) -> int:
        if size < 1:
            raise ValueError(f"size: expected at least 1, got {size}")
        return size

    with pytest.raises(ConfigError, match=r"^data\.args: row: size: expected at least 1, got 0$"):
        find_maker("data", "row", None, {"row": row})({"size": 0})


def test_a_task_of_ones_own_that_needs_arguments_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^task\.factory own_good:Kind\.made: missing a required argument: 'size'"):
        build_task(None, "own_good:Kind.made")
