"""The home folder of a device: who it is, which data it holds, what it allows; written by its owner, never by a server.

    device.yaml      this module's ``DeviceSettings``
    policy.json      fl_core.privacy.policy; without it the device trains nothing
    ledger.sqlite    what the device's data has spent; it outlives runs, enrolments and installations
    head/            how far the ledger had come, so that another one in its place is noticed
    artifacts/       the device's own models, which never travel
    keys/            key and certificate of the device
    run/             socket, counters and logs; may be deleted while nothing runs

Reading it loads no torch, so that a supervisor stays small.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from fl_core.client_id import client_id_problem
from fl_core.config.problems import described
from fl_core.data.partition import PartitionSpec
from fl_core.errors import ConfigError
from fl_core.files import write_atomic

DEVICE_FILE = "device.yaml"
_DEVICE_TEMPLATE = """\
client_id: {client_id}
data:
  name: null       # a built-in data set, or
  factory: null    # your own, as package.module:callable
  args: {{}}
factories: []      # your own code that a plan may name, each as package.module:callable
"""
_ANOTHER_HOME = "give another one with --home or STONECROP_HOME"
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class DeviceData:
    """The device's own examples: a data set by name, or a factory ``package.module:callable`` that gives one."""

    __pydantic_config__ = _STRICT

    name: str | None = None
    factory: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    partition: PartitionSpec = field(default_factory=PartitionSpec)
    seed: int = 1
    """Names the draws of a partition; of no meaning for a data set that comes with its clients."""
    client: str | None = None
    """Which client of the data set this device is; needed only where it has several, and none has its client_id."""

    def __post_init__(self) -> None:
        if (self.name is None) == (self.factory is None):
            raise ValueError(
                f"data: expected exactly one of data.name and data.factory, got {self.name!r}, {self.factory!r}"
            )


@dataclass(frozen=True)
class DeviceSettings:
    """What the owner of a device says of it."""

    __pydantic_config__ = _STRICT

    client_id: str
    """The name under which its ledger is kept and the server knows it."""
    data: DeviceData
    factories: tuple[str, ...] = ()
    """Each ``package.module:callable`` of the owner's own code that a plan may name; none by default."""
    models: tuple[str, ...] | None = None
    """The built-in models that a plan may name; null allows all of them."""
    simulated: bool = False
    """Noise from named seeds, for tests: the run is then not private, and says so wherever it speaks."""
    threads: int | None = None
    """Threads of local training; null leaves it to torch."""
    share_device_state: bool = False
    """Whether the server is told battery, charging and temperature when it asks; no privacy budget covers these."""

    def __post_init__(self) -> None:
        if problem := client_id_problem(self.client_id):
            raise ValueError(f"client_id: {problem}")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads: expected at least 1, got {self.threads}")
        wrong = [name for name in self.factories if ":" not in name]
        if wrong:
            raise ValueError(f'factories: expected each as "package.module:callable", got {wrong}')


@dataclass(frozen=True)
class DeviceHome:
    """A home folder and what its ``device.yaml`` says."""

    folder: Path
    device: DeviceSettings

    @property
    def policy_file(self) -> Path:
        """The limits that the device insists on."""
        return self.folder / "policy.json"

    @property
    def ledger_file(self) -> Path:
        """The privacy ledger of its data."""
        return self.folder / "ledger.sqlite"

    @property
    def head_file(self) -> Path:
        """What is known of the ledger apart from it."""
        return self.folder / "head" / "ledger.json"

    @property
    def artifacts(self) -> Path:
        """Folder of the device's own models."""
        return self.folder / "artifacts"

    @property
    def run_folder(self) -> Path:
        """Folder of socket, counters and logs."""
        return run_folder_of(self.folder)

    @property
    def socket(self) -> Path:
        """The socket of the device's trainer, unless a service says otherwise."""
        return self.run_folder / "trainer.sock"


def home_folder(given: Path) -> Path:
    """The home that a command was given, with ``~`` written out.

    Raises:
        ConfigError: this user has no home folder; the message says what to set.
    """
    try:
        return given.expanduser()
    except RuntimeError:
        raise ConfigError(
            f"{given}: expected a user with a home folder, got one without HOME and without an entry in passwd; "
            f"{_ANOTHER_HOME}"
        ) from None


def writable_home(given: Path, *, make: bool = False) -> Path:
    """The home that a command will write to; with ``make`` one that its user alone reads, where there is none.

    Raises:
        ConfigError: it cannot be made or written; the message says what to set.
    """
    folder = home_folder(given)
    try:
        if make:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{folder}: the home of this device cannot be made ({error.strerror}); {_ANOTHER_HOME}"
        ) from None
    if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"{folder}: this user cannot write the home of this device; {_ANOTHER_HOME}")
    return folder


def run_folder_of(folder: Path) -> Path:
    """Folder of socket, counters and logs of the home in ``folder``, which need not be readable."""
    return folder / "run"


def open_home(folder: Path) -> DeviceHome:
    """Read a home folder.

    Raises:
        ConfigError: there is no readable ``device.yaml``, or a field in it is wrong; the message names the field.
    """
    path = folder / DEVICE_FILE
    try:
        if not path.is_file():
            raise ConfigError(f"{folder}: expected the home of a device with {DEVICE_FILE}, found none")
        return DeviceHome(folder.resolve(), TypeAdapter(DeviceSettings).validate_python(_plain(path)))
    except PermissionError:
        raise ConfigError(f"{folder}: the home belongs to another user; try with sudo") from None
    except ValidationError as wrong:
        raise ConfigError([f"{path}: {text}" for _, text in described(wrong)]) from None


def start_home(folder: Path, client_id: str) -> bool:
    """Write a ``device.yaml`` to fill in where there is none yet; says whether it did.

    Raises:
        ConfigError: there is one already, for another client_id.
    """
    path = folder / DEVICE_FILE
    if path.exists():
        known = _plain(path).get("client_id")
        if known != client_id:
            raise ConfigError(f"{path}: client_id: expected {client_id!r}, as the server says, got {known!r}")
        return False
    write_atomic(path, _DEVICE_TEMPLATE.format(client_id=json.dumps(client_id)).encode())
    return True


def _plain(path: Path) -> dict[str, Any]:
    from omegaconf import OmegaConf

    try:
        plain = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except Exception as damaged:
        raise ConfigError(f"{path}: not readable as YAML: {damaged}") from damaged
    if not isinstance(plain, dict):
        raise ConfigError(f"{path}: expected fields by name, got {type(plain).__name__}")
    return {str(name): value for name, value in plain.items()}
