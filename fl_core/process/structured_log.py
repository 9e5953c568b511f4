"""What our processes log, one record a line for people or one JSON object a line for whoever collects logs.

A command sets the format for itself and, through the environment, for every process that it starts. What Flower,
nginx, uvicorn and Python itself print stays as they print it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone
from enum import Enum

from fl_core.errors import ConfigError

FORMAT_VARIABLE = "STONECROP_LOG_FORMAT"
"""Environment variable that says how this process and those that it starts log."""
_TALKATIVE = ("httpx", "alembic")
"""Libraries of Flower that log a line for each call of a server or each part of a database; only warnings are kept."""
_NAMES = {"client_id": "client"}
"""How people call a field, where it is another name than the field's own."""

logger = logging.getLogger(__name__)

_fields: ContextVar[Mapping[str, str | int]] = ContextVar("fields of log records")


class LogFormat(str, Enum):
    """How a record becomes a line."""

    TEXT = "text"
    JSON = "json"


@contextmanager
def logged_with(**fields: str | int | None) -> Iterator[None]:
    """Put ``fields`` (``run``, ``round``, ``client_id``) into each record that this thread logs inside.

    What is None is left as it was outside. Another thread has fields of its own.
    """
    known = {name: value for name, value in fields.items() if value is not None}
    token = _fields.set({**_fields.get({}), **known})
    try:
        yield
    finally:
        _fields.reset(token)


class TextFormatter(logging.Formatter):
    """Time, level, message, and the fields in brackets."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """The line without the traceback that may follow it."""
        known = ", ".join(f"{_NAMES.get(name, name)} {value}" for name, value in _fields.get({}).items())
        return super().formatMessage(record) + (f" [{' '.join(known.split())}]" if known else "")


class JsonFormatter(logging.Formatter):
    """One object a line: time (UTC, ISO 8601), level, logger, message, the fields, and a traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields.get({}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def start_logging(chosen: LogFormat | None = None, handler: logging.Handler | None = None) -> None:
    """Log from INFO on, in this process; those that it starts from now on take its format.

    Flower's records are left to Flower, which shows them itself.

    Args:
        chosen: the format; by default what the process was started with, else text.
        handler: where to; standard error by default.

    Raises:
        ConfigError: the environment names no known format.
    """
    chosen = chosen or chosen_format()
    os.environ[FORMAT_VARIABLE] = chosen.value
    handler = handler or logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if chosen is LogFormat.JSON else TextFormatter())
    handler.addFilter(lambda record: record.name.partition(".")[0] != "flwr")
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)


def say_error(words: str) -> None:
    """One line on standard error for whoever started this process; a record where it logs JSON."""
    if any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers):
        logger.error("%s", words)
    else:
        print(f"error: {words}", file=sys.stderr)


def chosen_format() -> LogFormat:
    """The log format that this process was started with, text unless the environment says otherwise.

    Raises:
        ConfigError: it is no known format.
    """
    word = os.environ.get(FORMAT_VARIABLE) or LogFormat.TEXT.value
    try:
        return LogFormat(word)
    except ValueError:
        known = ", ".join(each.value for each in LogFormat)
        raise ConfigError(f"{FORMAT_VARIABLE}: expected one of {known}, got {word!r}") from None
