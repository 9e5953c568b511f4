"""The app bundle that Flower carries to the boards: a pyproject and two files of one import each, nothing else.

The code itself is installed on every machine. A plan names the version that made it, and a board refuses another.
"""

from __future__ import annotations

from pathlib import Path

import fl_core
from fl_core.runlog import write_atomic

NAME = "stonecrop-run"

_PYPROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "{version}"
description = "Names the code that is installed on server and devices"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "stonecrop"

[tool.flwr.app.components]
serverapp = "server_side:app"
clientapp = "client_side:app"

[tool.flwr.app.config]
run = ""
"""
_SIDES = {
    "server_side.py": 'from fl_server.app import app\n\n__all__ = ["app"]\n',
    "client_side.py": 'from fl_client.app import app\n\n__all__ = ["app"]\n',
}


def write_bundle(folder: Path) -> None:
    """Write the app into ``folder``, for the installed version of the code."""
    write_atomic(folder / "pyproject.toml", _PYPROJECT.format(name=NAME, version=fl_core.__version__).encode())
    for name, text in _SIDES.items():
        write_atomic(folder / name, text.encode())
