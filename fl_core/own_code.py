"""Errors of a user's own code: the factories that a config names, and what their objects do later.

Such an error is told in one line with the file and the line in the user's code that it comes from, and without the
frames of ours that lie around it.
"""

from __future__ import annotations

import os
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fl_core.errors import StonecropError, one_line

_ROOT = Path(__file__).absolute().parents[1]
_OURS = tuple(str(_ROOT / name) + os.sep for name in ("fl_core", "fl_server", "fl_client", "strategies", "simulation"))
_STANDARD = tuple(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib"))
_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))


def own_place(error: BaseException) -> str:
    """The last place in a user's own code that an error went through, as "my_data.py, line 12, in rooms".

    Empty where it went through none: then it is a defect of ours or of a library.
    """
    if isinstance(error, SyntaxError) and error.filename and not _is_installed(error.filename):
        return f"{_shown(error.filename)}, line {error.lineno}"
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_installed(frame.filename)]
    if not own:
        return ""
    where = f"{_shown(own[-1].filename)}, line {own[-1].lineno}"
    return where if own[-1].name == "<module>" else f"{where}, in {own[-1].name}"


def described(error: BaseException) -> str:
    """Kind and text of an error in one line, with its place in the user's own code where it has one."""
    # A syntax error's text ends with file and line; its place says both.
    text = error.msg if isinstance(error, SyntaxError) else _text(error)
    place = own_place(error)
    words = ": ".join(filter(None, (type(error).__name__, one_line(text))))
    return f"{words} ({place})" if place else words


def _text(error: BaseException) -> str:
    """The text of an error; empty where its own code fails to give one."""
    try:
        return str(error)
    except Exception:
        return ""


@contextmanager
def own_code(what: str, failure: type[StonecropError]) -> Iterator[None]:
    """Inside, a user's own code runs; whatever it raises becomes a ``failure`` in one line that opens with ``what``.

    Errors of Stonecrop pass as they are, for they say what is wrong; so does Ctrl-C, and the end of a generator.

    Raises:
        StonecropError: a ``failure``, with the place in the user's code.
    """
    try:
        yield
    except (StonecropError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        raise failure(f"{what}: {described(error)}") from error


def _is_installed(file: str) -> bool:
    """Whether code is ours, a library's or of no file at all, and not the user's own."""
    return file.startswith(("<", *_OURS, *_STANDARD)) or any(name in file for name in _INSTALLED)


def _shown(file: str) -> str:
    """A path as short as it is clear: within the working directory without it."""
    here = os.getcwd() + os.sep
    return file.removeprefix(here)
