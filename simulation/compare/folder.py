"""What the folder of a comparison is called inside, and what is none.

It holds one run folder a strategy and seed, and the tables and the picture. What is hidden there are locks and
leftovers of a kill.
"""

from __future__ import annotations

import re
from pathlib import Path

from fl_core.errors import RunFolderError
from simulation.run import CONFIG_FILE

JSON_TABLE = "compare.json"
"""The table that a script reads; it is written after the others."""
_OWN = re.compile(r"\..*|compare\.(csv|md|json|png)|.+-seed\d+")


def name_of_run(strategy: str, seed: int) -> str:
    """The folder of one run of a comparison."""
    return f"{re.sub(r'[^A-Za-z0-9.]+', '-', strategy).strip('-.')}-seed{seed}"


def refuse_other_folder(folder: Path) -> None:
    """Look whether a comparison may be written to ``folder``: to one that was begun there, or to nothing.

    Raises:
        RunFolderError: something else is there.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        found = "a file"
    elif (folder / CONFIG_FILE).exists():
        found = "a run"
    elif (folder / JSON_TABLE).is_file():
        return
    else:
        found = next((path.name for path in sorted(folder.iterdir()) if not _OWN.fullmatch(path.name)), "")
    if found:
        raise RunFolderError(
            f"{folder}: expected a comparison or nothing, got {found}; it is left alone. Choose another --out"
        )
