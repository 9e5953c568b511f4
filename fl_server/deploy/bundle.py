"""Writes the app bundle that Flower packs and carries to the boards."""

from __future__ import annotations

from pathlib import Path

from fl_core.bundle import bundle_files
from fl_core.files import write_atomic


def write_bundle(folder: Path) -> None:
    """Write the app into ``folder``, for the installed version of the code."""
    for name, content in bundle_files().items():
        write_atomic(folder / name, content)
