"""The models that asynchronous tasks under way start from, in files, so that each is asked again word for word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fl_core.errors import RunFolderError
from fl_core.files import write_atomic
from fl_core.tensorfile import decode_tensors, encode_tensors
from fl_core.types import FloatArray, Tensors


class SentModels:
    """The models that tasks under way start from, one file a version, with what was sent beside them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, version: int, sent: Tensors) -> None:
        """Keep what clients of this version get."""
        write_atomic(self._path(version), encode_tensors(sent))

    def load(self, version: int) -> dict[str, FloatArray]:
        """What clients of that version got.

        Raises:
            RunFolderError: it is not there or damaged.
        """
        try:
            return decode_tensors(self._path(version).read_bytes())
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{self._path(version)}: expected the model of version {version} ({error})") from None

    def keep_only(self, versions: set[int]) -> None:
        """Forget all others."""
        kept = {self._path(version) for version in versions}
        for path in self._files():
            if path not in kept:
                path.unlink()

    def _files(self) -> Iterator[Path]:
        return self._folder.glob("*.safetensors")

    def _path(self, version: int) -> Path:
        return self._folder / f"{version:06d}.safetensors"
