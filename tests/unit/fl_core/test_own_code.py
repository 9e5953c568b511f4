"""An error of a user's own code is one line with the place in it; a defect of ours keeps its traceback."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fl_core.errors import DataError
from fl_core.own_code import described, own_code, own_place
from fl_core.process.command import errors_as_lines
from fl_core.tree import add_scaled

HERE = Path(__file__).name


def inner() -> None:
    np.zeros(3) @ np.zeros(4)


def caught(work: object) -> Exception:
    with pytest.raises(Exception) as raised:  # noqa: PT011
        work()  # type: ignore[operator]
    return raised.value


def test_the_place_is_the_innermost_of_ones_own_whatever_library_it_ends_in() -> None:
    first = inner.__code__.co_firstlineno
    assert own_place(caught(inner)).endswith(f"{HERE}, line {first + 1}, in inner")
    assert own_place(caught(lambda: json.loads("{"))).split(", ")[-1] == "in <lambda>"


def test_what_ours_raise_for_ones_own_call_names_that_call() -> None:
    assert own_place(caught(lambda: add_scaled({"w": np.zeros(2)}, {"v": np.zeros(2)}, 1.0))).endswith("in <lambda>")


def test_an_error_that_nobodys_own_code_saw_has_no_place() -> None:
    try:
        json.loads("{")
    except ValueError as error:
        ours = error.with_traceback(error.__traceback__.tb_next)  # type: ignore[union-attr]
    assert own_place(ours) == ""


def test_a_text_of_many_lines_is_told_in_one() -> None:
    def fail() -> None:
        raise ValueError("first\n  second\tthird")

    assert described(caught(fail)).startswith("ValueError: first second third (")


class OfNoException(BaseException):
    """Of no kind that ``except Exception`` catches."""


class WordlessError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    "raised", [KeyError("x"), SystemExit(3), OSError("gone"), RecursionError(), OfNoException(), WordlessError()]
)
def test_whatever_own_code_raises_is_the_error_that_its_field_asks_for(raised: BaseException) -> None:
    says = rf"^data\.factory m:f: {type(raised).__name__}.*{HERE}, line \d+"
    with pytest.raises(DataError, match=says), own_code("data.factory m:f", DataError):
        raise raised


@pytest.mark.parametrize(
    "passes", [KeyboardInterrupt(), GeneratorExit(), DataError("client a: expected one thing, got another")]
)
def test_ctrl_c_and_errors_that_say_it_all_pass(passes: BaseException) -> None:
    with pytest.raises(type(passes)) as raised, own_code("data.factory m:f", DataError):
        raise passes
    assert raised.value is passes


def test_a_command_tells_ones_own_error_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, errors_as_lines():
        inner()
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: matmul" in line
    assert "in inner)" in line
