"""The drawing of the error tree says what its classes do, and every code is explained to whoever meets it."""

from __future__ import annotations

import re

from fl_core import errors
from fl_core.errors import EXIT_CODES, FINAL_CODES, INTERRUPTED, StonecropError


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


def test_an_exit_code_stands_for_errors_that_the_same_try_meets_again_or_for_none_of_them() -> None:
    final = {error.exit_code for error in below(StonecropError) if error.final}
    passing = {error.exit_code for error in below(StonecropError) if not error.final}
    assert final == FINAL_CODES
    assert not final & passing


def test_every_exit_code_has_words() -> None:
    assert {error.exit_code for error in below(StonecropError)} | {0, INTERRUPTED} == EXIT_CODES.keys()
