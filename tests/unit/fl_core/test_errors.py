"""The drawing of the error tree says what its classes do, and every code is explained to whoever meets it."""

from __future__ import annotations

import pickle
import re

from fl_core import errors
from fl_core.errors import (
    EXIT_CODES,
    FINAL_CODES,
    INTERRUPTED,
    DataError,
    NoUpdateError,
    RoundError,
    RunFolderError,
    StonecropError,
    StorageError,
)


def below(error: type[StonecropError]) -> list[type[StonecropError]]:
    return [error, *(each for child in error.__subclasses__() if child.__module__ == errors.__name__
                     for each in below(child))]  # fmt: skip


def test_the_drawing_has_every_error_with_its_exit_code_below_its_parent() -> None:
    drawn = re.findall(r"^( {4}[ │├└─]*)(\w+Error) +(?:exit code )?(\d+)", errors.__doc__ or "", re.M)
    depth = {error.__name__: len(error.__mro__) - len(StonecropError.__mro__) + 1 for error in below(StonecropError)}
    assert {name: int(code) for _, name, code in drawn} == {e.__name__: e.exit_code for e in below(StonecropError)}
    assert [len(indent) // 4 for indent, _, _ in drawn] == [
        depth[name] - depth["StonecropError"] + 1 for _, name, _ in drawn
    ]


def test_a_final_code_stands_for_errors_alone_that_the_same_try_meets_again() -> None:
    final = {error.exit_code for error in below(StonecropError) if error.final}
    passing = {error.exit_code for error in below(StonecropError) if not error.final}
    assert {2, 3, 4, 5, 7, 10} == FINAL_CODES <= final
    assert not FINAL_CODES & passing


def test_a_full_disk_passes_and_a_run_of_which_nothing_came_does_not() -> None:
    assert RunFolderError.final
    assert not StorageError.final
    assert not RoundError.final
    assert NoUpdateError.final


def test_every_exit_code_has_words() -> None:
    assert {error.exit_code for error in below(StonecropError)} | {0, INTERRUPTED} == EXIT_CODES.keys()


def test_a_problem_is_one_line_whatever_lines_a_librarys_text_had() -> None:
    error = StonecropError("model net: expected float, got\n  Half\r\n\n\tcall .float() \x1b[31mfirst\u2028now")
    assert error.problems == ("model net: expected float, got Half call .float() [31mfirst now",)
    assert str(error) == error.problems[0]


def test_several_problems_stay_apart_and_make_one_line_together() -> None:
    error = DataError(["client a: no\nexamples", "client b: two  spaces"])
    assert error.problems == ("client a: no examples", "client b: two  spaces")
    assert str(error) == "client a: no examples; client b: two  spaces"


def test_an_error_that_comes_from_another_process_is_the_same() -> None:
    for error in (DataError(["one", "two"]), RoundError("alone"), StonecropError()):
        there = pickle.loads(pickle.dumps(error))
        assert (type(there), there.problems, str(there)) == (type(error), error.problems, str(error))
