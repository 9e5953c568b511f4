"""What the three commands have in common: errors as one line each, exit codes, Ctrl-C as a line.

Errors that a user can cause come without a traceback, with the exit code of their branch of the error tree; anything
else is a defect and keeps its traceback.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fl_core.errors import ConfigError, StonecropError
from fl_core.process.structured_log import say_error

INTERRUPTED = 130
EXIT_CODES = "\n\n".join((
    "Exit codes:",
    "0 all went well",
    "1 another error of Stonecrop, or a defect (with a traceback)",
    "2 the config or the command line is wrong",
    "3 the data breaks its contract",
    "4 the model cannot be built, or has a layer that cannot become integer",
    "5 a privacy guarantee would not hold, or its budget is spent",
    "6 a round cannot go on, or a message cannot be read",
    "7 an artefact cannot be made or loaded, or does not compute what was trained",
    "8 a run folder is missing, damaged, or holds another run",
    "9 the trainer of a board is not there, died, or failed in a task",
    "10 a device cannot be enrolled, named or let in",
    "130 interrupted; a run can be resumed",
))  # fmt: skip
"""Below ``--help``; the branches of the error tree."""


@contextmanager
def errors_as_lines(when_interrupted: str | Callable[[], str] = "interrupted") -> Iterator[None]:
    """Turn Stonecrop's errors into lines and an exit code, and Ctrl-C or a polite kill into ``when_interrupted``, which
    may depend on what has been done by then."""
    with terminated_as_interrupted():
        try:
            yield
        except StonecropError as error:
            problems = error.problems if isinstance(error, ConfigError) else str(error).splitlines()
            for problem in problems:
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
