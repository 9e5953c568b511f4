"""Files that installed packages ship, read only when they are the ones that are expected."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from fl_core.errors import DataError


def packaged_bytes(package: str, file: str, sha256: str) -> bytes:
    """Contents of ``file`` inside an installed package, which is not imported.

    Raises:
        DataError: the package or the file is missing, or the file is not the one whose SHA-256 is expected.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise DataError(f"expected the package {package} to be installed (it ships {file}), found none")
    path = Path(spec.origin).parent / file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(f"{path}: expected SHA-256 {sha256}, got {found}; reinstall {package}")
    return content
