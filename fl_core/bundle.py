"""The app bundle that Flower carries to the boards: a pyproject and two files of one import each, nothing else.

The code itself is installed on every machine, and a plan names the version that made it. So a server generates the
bundle, and a board, which knows what must be in it, takes no other.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import Any

import fl_core
from fl_core.errors import WireError

NAME = "stonecrop-run"

_PYPROJECT = "pyproject.toml"
_PYPROJECT_TEXT = """\
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
_MANIFEST = ".info/CONTENT"
"""Flower's list of the files with their hashes, which it adds to a bundle."""
_MOST_BYTES = 16_000
"""How much of one file is looked at; those of a bundle have less than a thousand bytes."""


def bundle_files() -> dict[str, bytes]:
    """The files of the bundle by name, for the installed version of the code."""
    pyproject = _PYPROJECT_TEXT.format(name=NAME, version=fl_core.__version__)
    return {name: text.encode() for name, text in {_PYPROJECT: pyproject, **_SIDES}.items()}


def check_bundle(content: bytes) -> None:
    """Look whether a bundle, as Flower packs it, is the one that this version generates; nothing of it is unpacked.

    Raises:
        WireError: it is not; the message names the first file that differs.
    """
    expected = bundle_files()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            wrong = sorted({*names} ^ {*expected, _MANIFEST}) or [name for name in names if names.count(name) > 1]
            if wrong:
                raise _refusal(wrong[0], f"{names.count(wrong[0])} of that name")
            for name, text in expected.items():
                with archive.open(name) as file:
                    got = file.read(_MOST_BYTES)
                if name == _PYPROJECT:
                    _check_pyproject(text, got)
                elif got != text:
                    raise _refusal(name, "other text")
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as damaged:
        raise WireError(f"app bundle: expected a readable archive, got {damaged}") from None


def _check_pyproject(text: bytes, got: bytes) -> None:
    """Compare what the pyproject says, not how: Flower reads it and writes it anew."""
    try:
        said = _read_toml(got)
    except ValueError:
        raise _refusal(_PYPROJECT, "what is no TOML") from None
    if said == _read_toml(text):
        return
    project = said.get("project")
    version = project.get("version") if isinstance(project, dict) else None
    other = version != fl_core.__version__
    raise _refusal(_PYPROJECT, f"that of version {str(version)[:20]!r}" if other else "other fields")


def _read_toml(text: bytes) -> dict[str, Any]:
    import tomllib  # of Python 3.11, which Flower needs, too

    return tomllib.loads(text.decode())


def _refusal(name: str, got: str) -> WireError:
    return WireError(
        f"app bundle: {name[:100]}: expected what Stonecrop {fl_core.__version__} generates, got {got}; "
        "server and board must hold the same release"
    )
