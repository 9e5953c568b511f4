"""Writes the start of a strategy of one's own: a class that works, and the test that says whether it does.

The files are for the user to change; they import nothing that was written for them.
"""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from fl_core.errors import ConfigError, RunFolderError
from fl_core.files import write_atomic

TEMPLATES = Path(__file__).with_name("templates")


def write_strategy(name: str, out: Path) -> tuple[Path, Path]:
    """Write ``name.py`` and ``test_name.py`` to ``out``; gives their paths.

    Raises:
        ConfigError: ``name`` is no name of a module in snake_case.
        RunFolderError: one of the files is there already; nothing was written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise ConfigError(f"NAME: expected lower-case letters, digits and '_', as in calm_average, got {name!r}")
    paths = (out / f"{name}.py", out / f"test_{name}.py")
    for path in paths:
        if path.exists():
            raise RunFolderError(f"{path}: is there already; it is left alone")
    words = {"@MODULE@": name, "@CLASS@": "".join(part.capitalize() for part in name.split("_"))}
    for path, template in zip(paths, ("strategy.py.txt", "test_strategy.py.txt"), strict=True):
        text = (TEMPLATES / template).read_text(encoding="utf-8")
        for mark, word in words.items():
            text = text.replace(mark, word)
        write_atomic(path, text.encode())
    return paths
