"""The record that stands beside every artefact, and what a board does with the two before it activates anything.

``artifact.json`` says what the file next to it is, what it was proven to compute and on which golden inputs that can be
repeated. Reading it trusts nothing: the file must be a plain name in the same folder with the recorded size and hash,
and a folder that carries a veto is refused.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fl_core.errors import ExportError, ParityError
from fl_core.export.base import IntArray, KernelProof, Runner
from fl_core.export.parity import Parity
from fl_core.export.registry import build_exporter
from fl_core.files import write_json
from fl_core.types import FloatArray

ARTIFACT_FILE = "artifact.json"
VETO_FILE = "vetoed.json"
ARTIFACT_VERSION = 1


@dataclass(frozen=True)
class Golden:
    """Inputs whose outputs a runtime must repeat bit for bit. They are public or synthetic, never a private example."""

    inputs: FloatArray
    """Float32 examples [B, *input_shape]."""
    outputs: IntArray
    """Integer steps of the output's scale [B, ...]."""


@dataclass(frozen=True)
class Origin:
    """Where an artefact comes from and how its inputs are made; what a person must know to use it."""

    run: str
    round: int
    epsilon: float | None = None
    """Privacy spent on the weights, the largest over all clients so far; None without a guarantee."""
    labels: tuple[str, ...] = ()
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    """How raw data becomes the model's float input, as plain values."""
    weight_bits: int | None = None
    """The ``quant.weight_bits`` that its clients train at; single layers may have their own. None: not stated."""
    user_epsilon: float | None = None
    """Privacy spent for each whole client, by the server's noise; None without that guarantee."""


@dataclass(frozen=True)
class Artifact:
    """Everything that is known of one exported file."""

    format: str
    path: str
    """Plain name of the file, in the folder of ``artifact.json``."""
    bytes: int
    bytes_float: int
    """Size of the float32 twin of the same graph."""
    sha256: str
    origin: Origin
    input_shape: tuple[int, ...]
    """One example, without the batch axis."""
    input_range: tuple[float, float]
    """Real values beyond these are clipped by the input quantizer."""
    output_scale: float
    """Size of one LSB of the output."""
    parity: Parity
    kernels: KernelProof
    golden: Golden
    accuracy: float | None = None
    """Score of the artefact itself in its runtime; None where there are no held-out examples."""


def write_artifact(artifact: Artifact, folder: Path) -> None:
    """Writes ``artifact.json`` into a folder, atomically."""
    golden = artifact.golden
    plain = {item.name: getattr(artifact, item.name) for item in fields(artifact)}
    plain.update({name: asdict(plain[name]) for name in ("origin", "parity", "kernels")})
    plain["golden"] = {"inputs": _pack(golden.inputs), "outputs": _pack(golden.outputs)}
    write_json(folder / ARTIFACT_FILE, {"version": ARTIFACT_VERSION, **plain})


def read_artifact(folder: Path) -> Artifact:
    """Reads ``artifact.json`` and verifies the file that it names.

    Raises:
        ExportError: the folder is vetoed, the record is missing or damaged, or the file is not the one recorded.
    """
    if (folder / VETO_FILE).exists():
        raise ExportError(f"artefact {folder}: vetoed: {_read_json(folder / VETO_FILE).get('reason')}")
    plain = _read_json(folder / ARTIFACT_FILE)
    version = plain.pop("version", None)
    if version != ARTIFACT_VERSION:
        raise ExportError(f"artefact {folder}: expected version {ARTIFACT_VERSION}, got {version}")
    try:
        origin = {**plain["origin"], "labels": tuple(plain["origin"]["labels"])}
        kernels = {**plain["kernels"], "integer_nodes": tuple(plain["kernels"]["integer_nodes"])}
        artifact = Artifact(
            **{
                **plain,
                "origin": Origin(**origin),
                "parity": Parity(**plain["parity"]),
                "kernels": KernelProof(**kernels),
                "golden": Golden(
                    _unpack(plain["golden"]["inputs"], np.float32), _unpack(plain["golden"]["outputs"], np.int32)
                ),
                "input_shape": tuple(plain["input_shape"]),
                "input_range": tuple(plain["input_range"]),
            }
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ExportError(f"artefact {folder}: {ARTIFACT_FILE} is damaged ({error!r})") from error
    _verify_file(artifact, folder)
    return artifact


def load_artifact(folder: Path) -> tuple[Artifact, Runner]:
    """The verified record of a folder and its file, loaded in its runtime.

    Raises:
        ExportError: as ``read_artifact``; or the runtime is missing or refuses the file.
        ConfigError: this installation does not know the format.
    """
    artifact = read_artifact(folder)
    return artifact, build_exporter(artifact.format).load(folder / artifact.path)


def replay(folder: Path) -> None:
    """What a board runs before it activates an artefact: its golden inputs must give the recorded integers.

    Raises:
        ExportError: as ``load_artifact``.
        ParityError: an output differs on this machine; the message has the figures.
    """
    artifact, runner = load_artifact(folder)
    expected_BK = artifact.golden.outputs
    got_BK = runner.integers(artifact.golden.inputs)
    if got_BK.shape != expected_BK.shape:
        raise ParityError(f"artefact {folder}: expected outputs of shape {expected_BK.shape}, got {got_BK.shape}")
    distance_BK = np.abs(got_BK.astype(np.int64) - expected_BK)
    if distance_BK.any():
        raise ParityError(
            f"artefact {folder}: expected the golden outputs, got {np.count_nonzero(distance_BK)} of "
            f"{distance_BK.size} values different by up to {distance_BK.max()} LSB"
        )


def sha256_of(path: Path) -> str:
    """Hash of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _verify_file(artifact: Artifact, folder: Path) -> None:
    if artifact.path != Path(artifact.path).name or artifact.path in ("", ".", ".."):
        raise ExportError(f"artefact {folder}: expected a file of this folder, got {artifact.path!r}")
    path = folder / artifact.path
    if not path.is_file() or path.is_symlink():
        raise ExportError(f"artefact {folder}: expected the file {artifact.path}, got none")
    size, digest = path.stat().st_size, sha256_of(path)
    if (size, digest) != (artifact.bytes, artifact.sha256):
        raise ExportError(
            f"artefact {folder}: expected {artifact.path} of {artifact.bytes} bytes and SHA-256 {artifact.sha256}, "
            f"got {size} bytes and {digest}"
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        plain = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ExportError(f"artefact {path.parent}: expected {path.name}, got none") from None
    except ValueError as error:
        raise ExportError(f"artefact {path.parent}: {path.name} is damaged ({error})") from error
    if not isinstance(plain, dict):
        raise ExportError(f"artefact {path.parent}: expected {path.name} to hold an object, got {type(plain).__name__}")
    return plain


def _pack(values: npt.NDArray[Any]) -> dict[str, Any]:
    little_endian = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    data = base64.b64encode(little_endian.tobytes()).decode("ascii")
    return {"dtype": values.dtype.name, "shape": list(values.shape), "base64": data}


def _unpack(packed: Mapping[str, Any], dtype: type[np.generic]) -> npt.NDArray[Any]:
    expected = np.dtype(dtype)
    if packed["dtype"] != expected.name:
        raise ValueError(f"expected {expected.name}, got {packed['dtype']}")
    raw = base64.b64decode(packed["base64"], validate=True)
    return np.frombuffer(raw, expected.newbyteorder("<")).reshape(packed["shape"]).astype(expected)
