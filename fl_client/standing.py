"""How a board stands with its server, in a file of its home: whoever keeps the board up writes it, others read it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fl_core.files import read_json, write_json


@dataclass(frozen=True)
class Standing:
    """What a server says of a board, in lines; None where nothing is wrong, or nothing is known."""

    trouble: str | None = None
    """Why it has no use for the board."""
    twice: str | None = None
    """That another board has the same identity; the one that began first takes part all the same."""
    is_second: bool = False
    """Whether the trouble is that this board is the later one of two; no further start mends that."""

    def lines(self) -> Iterator[str]:
        """What a person is told of it."""
        if self.trouble is not None:
            yield f"takes no part: {self.trouble}"
        if self.twice is not None:
            yield self.twice


def keep_standing(folder: Path, found: Standing) -> None:
    """Write down how the board of the home ``folder`` stands; there is no file where nothing is wrong.

    Raises:
        OSError: it cannot be written.
    """
    if found == Standing():
        _file(folder).unlink(missing_ok=True)
    else:
        write_json(_file(folder), {"trouble": found.trouble, "twice": found.twice})


def kept_standing(folder: Path) -> Standing:
    """How the board of the home ``folder`` stands with its server, as far as it is known."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        found = read_json(_file(folder)) or {}
        trouble, twice = (None if found.get(name) is None else str(found[name]) for name in ("trouble", "twice"))
        return Standing(trouble, twice)
    return Standing()


def _file(folder: Path) -> Path:
    return folder / "run" / "server.json"
