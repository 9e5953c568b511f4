"""The record that stands beside every artefact, and what a board does with the two before it activates anything.

``artifact.json`` says what the files next to it are, what they were proven to compute and on which golden inputs that
can be repeated. Reading it trusts nothing: every file must be a plain name in the same folder with the recorded size
and hash, no other file may be there, and a folder that carries a veto is refused. An artefact whose ``proof`` is
``on_device`` was never run where it was made: it can be read, and nothing here loads or replays it as a good one.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from fl_core.errors import ExportError, ParityError
from fl_core.export.base import IntArray, KernelProof, Proof, Runner
from fl_core.export.parity import Parity
from fl_core.export.registry import build_exporter
from fl_core.files import write_json
from fl_core.types import FloatArray

ARTIFACT_FILE = "artifact.json"
VETO_FILE = "vetoed.json"
ARTIFACT_VERSION = 2


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
class ArtifactFile:
    """Size and identity of one file of an artefact."""

    bytes: int
    sha256: str
    """SHA-256 of the content, in hex."""

    @classmethod
    def of(cls, path: Path) -> ArtifactFile:
        """Measures a file that is there."""
        data = path.read_bytes()
        return cls(len(data), hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class Artifact:
    """Everything that is known of one exported model."""

    format: str
    path: str
    """Name in ``files`` of the entry file, the one that the runtime is given."""
    files: Mapping[str, ArtifactFile]
    """Every file by its plain name, all in the folder of ``artifact.json``."""
    bytes_float: int
    """Size of the float32 twin of the same graph, all its files together."""
    origin: Origin
    input_shape: tuple[int, ...]
    """One example, without the batch axis."""
    input_range: tuple[float, float]
    """Real values beyond these are clipped by the input quantizer."""
    output_scale: float
    """Size of one LSB of the output."""
    proof: Proof
    parity: Parity | None
    """None exactly where ``proof`` is ``on_device``: nobody has run the artefact yet."""
    kernels: KernelProof | None
    """None exactly where ``parity`` is."""
    golden: Golden
    """With ``on_device`` its outputs are those of ``fl_core.quant.integer``."""
    accuracy: float | None = None
    """Score of the artefact itself in its runtime; None where there are no held-out examples."""

    @property
    def bytes(self) -> int:
        """Size of all files together."""
        return sum(file.bytes for file in self.files.values())


def write_artifact(artifact: Artifact, folder: Path) -> None:
    """Writes ``artifact.json`` into a folder, atomically."""
    golden = artifact.golden
    plain = {item.name: getattr(artifact, item.name) for item in fields(artifact)}
    plain |= {name: asdict(plain[name]) for name in ("origin", "parity", "kernels") if plain[name] is not None}
    plain["files"] = {name: asdict(file) for name, file in artifact.files.items()}
    plain["golden"] = {"inputs": _pack(golden.inputs), "outputs": _pack(golden.outputs)}
    write_json(folder / ARTIFACT_FILE, {"version": ARTIFACT_VERSION, "bytes": artifact.bytes, **plain})


def read_artifact(folder: Path) -> Artifact:
    """Reads ``artifact.json`` and verifies the files that it names; whether they are proven, ``proof`` says.

    Raises:
        ExportError: the folder is vetoed, the record is missing or damaged, or the files are not the ones recorded.
    """
    if (folder / VETO_FILE).exists():
        raise ExportError(f"artefact {folder}: vetoed: {_read_json(folder / VETO_FILE).get('reason')}")
    plain = _read_json(folder / ARTIFACT_FILE)
    version = plain.pop("version", None)
    if version != ARTIFACT_VERSION:
        raise ExportError(f"artefact {folder}: expected version {ARTIFACT_VERSION}, got {version}")
    try:
        artifact = _from_plain(plain)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ExportError(f"artefact {folder}: {ARTIFACT_FILE} is damaged ({error!r})") from error
    _verify_files(artifact, folder)
    return artifact


def load_artifact(folder: Path) -> tuple[Artifact, Runner]:
    """The verified and proven record of a folder and its artefact, loaded in its runtime.

    Raises:
        ExportError: as ``read_artifact``; or nobody has proven the artefact; or the runtime is missing or refuses it.
        ConfigError: this installation does not know the format.
    """
    artifact = read_artifact(folder)
    if artifact.proof != "here":
        raise ExportError(
            f"artefact {folder}: expected one that was proven where it was made, got proof {artifact.proof}: it is "
            "unproven until its own device has run its golden inputs"
        )
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


def _from_plain(plain: Mapping[str, Any]) -> Artifact:
    fixed = dict(plain)
    size, kernels, parity = fixed.pop("bytes"), fixed["kernels"], fixed["parity"]
    if fixed["proof"] not in get_args(Proof):
        raise ValueError(f"expected a proof of {get_args(Proof)}, got {fixed['proof']!r}")
    unproven = fixed["proof"] == "on_device"
    if unproven != (parity is None) or unproven != (kernels is None):
        raise ValueError(f"expected parity and kernels with proof here alone, got them otherwise with {fixed['proof']}")
    golden = fixed["golden"]
    artifact = Artifact(
        **{
            **fixed,
            "files": {name: ArtifactFile(**file) for name, file in fixed["files"].items()},
            "origin": Origin(**{**fixed["origin"], "labels": tuple(fixed["origin"]["labels"])}),
            "parity": None if parity is None else Parity(**parity),
            "kernels": None if kernels is None else _kernels(kernels),
            "golden": Golden(_unpack(golden["inputs"], np.float32), _unpack(golden["outputs"], np.int32)),
            "input_shape": tuple(fixed["input_shape"]),
            "input_range": tuple(fixed["input_range"]),
        }
    )
    if artifact.bytes != size:
        raise ValueError(f"expected files of {size} bytes together, got {artifact.bytes}")
    return artifact


def _kernels(plain: Mapping[str, Any]) -> KernelProof:
    return KernelProof(**{**plain, "integer_nodes": tuple(plain["integer_nodes"])})


def _verify_files(artifact: Artifact, folder: Path) -> None:
    for name in (artifact.path, *artifact.files):
        if name not in artifact.files or name != Path(name).name or name in ("", ".", "..", ARTIFACT_FILE):
            raise ExportError(f"artefact {folder}: expected a file of this folder, got {name!r}")
    for name, recorded in artifact.files.items():
        path = folder / name
        if not path.is_file() or path.is_symlink():
            raise ExportError(f"artefact {folder}: expected the file {name}, got none")
        found = ArtifactFile.of(path)
        if found != recorded:
            raise ExportError(
                f"artefact {folder}: expected {name} of {recorded.bytes} bytes and SHA-256 {recorded.sha256}, "
                f"got {found.bytes} bytes and {found.sha256}"
            )
    unlisted = sorted({path.name for path in folder.iterdir()} - {ARTIFACT_FILE, *artifact.files})
    if unlisted:
        raise ExportError(f"artefact {folder}: expected the recorded files alone, got {', '.join(unlisted)} as well")


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
