"""What the three commands have in common: errors as one line each, exit codes, Ctrl-C as a line.

Errors that a user can cause come without a traceback, with the exit code of their branch of the error tree; anything
else is a defect and keeps its traceback.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fl_core.errors import ConfigError, StonecropError

INTERRUPTED = 130


@contextmanager
def errors_as_lines(when_interrupted: str = "interrupted") -> Iterator[None]:
    """Turn Stonecrop's errors into lines and an exit code, and Ctrl-C or a polite kill into ``when_interrupted``."""
    with terminated_as_interrupted():
        try:
            yield
        except StonecropError as error:
            problems = error.problems if isinstance(error, ConfigError) else str(error).splitlines()
            for problem in problems:
                print(f"error: {problem}", file=sys.stderr)
            raise SystemExit(error.exit_code) from None
        except KeyboardInterrupt:
            print(when_interrupted, file=sys.stderr)
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
