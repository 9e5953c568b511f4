"""Where the runs lie that a run folder holds beside its own: the companion, which shows the same without DP, say."""

from __future__ import annotations

from pathlib import Path

COMPANION = "companion"
"""The folder in a run folder that holds its companion runs, each a whole run folder of the same shape."""
_FORMER = "beside"
"""What that folder was called before; runs from then are read and gone on with as they are."""


def companion_folders(run_dir: Path, having: str) -> list[Path]:
    """The folders of a run's companions, by name, as far as they hold a file ``having``."""
    found = [path.parent for name in (COMPANION, _FORMER) for path in (run_dir / name).glob(f"*/{having}")]
    return sorted(found, key=lambda folder: folder.name)
