"""Why a board's server has no use for it, in a file of its home: whoever keeps the board up writes it, others read."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from fl_core.files import read_json, write_json


def keep_server_trouble(folder: Path, words: str | None) -> None:
    """Write down why the server has no use for the board of the home ``folder``; None takes the file away.

    Raises:
        OSError: it cannot be written.
    """
    if words is None:
        _file(folder).unlink(missing_ok=True)
    else:
        write_json(_file(folder), {"trouble": words})


def server_trouble(folder: Path) -> str | None:
    """Why the server has no use for the board of the home ``folder``, as far as it is known; None where nothing is."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        return str((read_json(_file(folder)) or {})["trouble"])
    return None


def _file(folder: Path) -> Path:
    return folder / "run" / "server.json"
