"""What the three commands have in common: errors as one line each, exit codes, Ctrl-C as a line.

Errors that a user can cause come without a traceback, with the exit code of their branch of the error tree; anything
else is a defect and keeps its traceback.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from fl_core.errors import EXIT_CODES, INTERRUPTED, StonecropError
from fl_core.process.structured_log import FORMAT_VARIABLE, LogFormat, say_error

EXIT_CODES_HELP = "\n\n".join(("Exit codes:", *(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())))
"""What stands below ``--help``, as paragraphs of typer."""


LogFormatOption = Annotated[
    LogFormat,
    typer.Option("--log-format", envvar=FORMAT_VARIABLE, help="Log lines for people, or one JSON object a line."),
]
"""The option of every command that logs."""


@contextmanager
def errors_as_lines(when_interrupted: str | Callable[[], str] = "interrupted") -> Iterator[None]:
    """Turn Stonecrop's errors into lines and an exit code, and Ctrl-C or a polite kill into a line and exit code 130.

    ``when_interrupted`` is that line, or makes it of what has been done by then.
    """
    with terminated_as_interrupted():
        try:
            yield
        except StonecropError as error:
            for problem in error.problems:
                say_error(problem)
            raise SystemExit(error.exit_code) from None
        except KeyboardInterrupt:
            print(when_interrupted if isinstance(when_interrupted, str) else when_interrupted(), file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """A polite ``kill`` ends a command as Ctrl-C does."""

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
