"""What the three commands have in common: errors as one line each, exit codes, Ctrl-C as a line.

Errors that a user can cause, and those of the operating system, come without a traceback, with the exit code of their
branch of the error tree. So do those of a user's own code, with the place in it; anything else is a defect and keeps
its traceback.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, NoReturn

import typer

from fl_core.errors import EXIT_CODES, INTERRUPTED, StonecropError
from fl_core.own_code import described, own_place
from fl_core.process.structured_log import FORMAT_VARIABLE, LogFormat, say_error
from fl_core.storage import storage_error

EXIT_CODES_HELP = "\n\n".join(("Exit codes:", *(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())))
"""What stands below ``--help``, as paragraphs of typer."""


LogFormatOption = Annotated[
    LogFormat,
    typer.Option("--log-format", envvar=FORMAT_VARIABLE, help="Log lines for people, or one JSON object a line."),
]
"""The option of every command that logs."""


@contextmanager
def errors_as_lines(
    when_interrupted: str | Callable[[], str] = "interrupted", go_on: Callable[[], str | None] = lambda: None
) -> Iterator[None]:
    """Turn Stonecrop's errors into lines and an exit code, and Ctrl-C or a polite kill into a line and exit code 130.

    Once that line is said, the process ends, and hears no more Ctrl-C.

    Args:
        when_interrupted: that line, or what makes it of what has been done by then.
        go_on: the command that goes on once there is room on the disk again; None for the same command.
    """
    with terminated_as_interrupted():
        try:
            yield
        except StonecropError as error:
            _end(error)
        except BrokenPipeError:  # whoever read what is printed has heard enough: click ends the process in silence
            raise
        except OSError as error:  # wherever it was raised: the disk is of the machine
            command = go_on()
            _end(storage_error(error, f"go on with: {command}") if command else storage_error(error))
        except Exception as error:
            if not own_place(error):
                raise
            say_error(described(error))
            raise SystemExit(StonecropError.exit_code) from None
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # it was heard: what is left to do is short
            print(when_interrupted if isinstance(when_interrupted, str) else when_interrupted(), file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None


def _end(error: StonecropError) -> NoReturn:
    with suppress(OSError):  # standard error may be a file on the disk that is full
        for problem in error.problems:
            say_error(problem)
    raise SystemExit(error.exit_code) from None


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
