"""The folder of a server: where everything is that ``fl-server up`` needs and that survives it.

    DIR/
    ├── server.yaml     what the operator may change: host, address and ports
    ├── fleet.yaml      a config to edit and run
    ├── ca/, gateway/   authority, server certificate, registry of devices, nginx configuration
    ├── flower/         home of Flower's commands, and the SuperLink's database
    ├── fab/            the generated app bundle
    ├── runs/<name>/    run folders, as in simulation
    ├── logs/           one file a process
    └── wanted.json     the run that is to be under way; none where the server is idle

``wanted.json`` is the one thing by which commands tell the server what to do, so a command needs no connection to it
and what was wanted outlives every process.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from fl_core.config.problems import described
from fl_core.errors import ConfigError, RunFolderError
from fl_core.files import read_json, write_atomic, write_json
from fl_core.hostnames import canonical_address, canonical_host

SERVER_VARIABLE = "STONECROP_SERVER"
"""Environment variable in which ``up`` tells the ServerApp where the server's folder is."""

SETTINGS_FILE = "server.yaml"
_RUN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Settings:
    """What the operator may change. Only the gateway listens on other addresses than loopback."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    host: str = "localhost"
    """Name or address by which devices reach the gateway; it stands in the server certificate in this form."""
    gateway_port: int = 8443
    superlink_port: int = 8100
    service_port: int = 8101
    health_port: int = 8102
    listen: str = "0.0.0.0"
    """Address of this machine on which the gateway listens: 0.0.0.0 is all of IPv4, :: is all of IPv6 and IPv4."""

    def __post_init__(self) -> None:
        for name, canonical in (("host", canonical_host), ("listen", canonical_address)):
            try:
                object.__setattr__(self, name, canonical(getattr(self, name)))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        ports = {name: value for name, value in asdict(self).items() if name.endswith("_port")}
        for name, port in ports.items():
            if not 1 <= port <= 65535:
                raise ValueError(f"{name}: expected 1 to 65535, got {port}")
        if len(set(ports.values())) != len(ports):
            raise ValueError(f"ports: expected all different, got {ports}")


@dataclass(frozen=True)
class ServerHome:
    """A server's folder and its settings."""

    folder: Path
    settings: Settings

    @classmethod
    def open(cls, folder: Path) -> ServerHome:
        """The home in ``folder``.

        Raises:
            RunFolderError: nobody has made one there.
            ConfigError: its settings are wrong.
        """
        path = folder / SETTINGS_FILE
        if not path.is_file():
            raise RunFolderError(f"{folder}: expected a server's folder with {SETTINGS_FILE}; make one: fl-server init")
        try:
            plain = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            if not isinstance(plain, dict):
                raise ConfigError(f"{path}: expected fields by name, got {type(plain).__name__}")
            return cls(folder.resolve(), TypeAdapter(Settings).validate_python(plain))
        except ValidationError as error:
            raise ConfigError([f"{path}: {text}" for _, text in described(error)]) from None
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError(f"{path}: not readable as YAML: {error}") from None

    @classmethod
    def of_process(cls, environment: Mapping[str, str]) -> ServerHome:
        """The home that ``fl-server up`` named to a process that it started.

        Raises:
            ConfigError: this process was started by something else.
        """
        folder = environment.get(SERVER_VARIABLE)
        if folder is None:
            raise ConfigError(
                f"server: expected {SERVER_VARIABLE} in the environment; runs are started by fl-server up"
            )
        return cls.open(Path(folder))

    def save(self) -> None:
        """Write the settings."""
        write_atomic(self.folder / SETTINGS_FILE, yaml.safe_dump(asdict(self.settings), sort_keys=False).encode())

    @property
    def flower(self) -> Path:
        """``FLWR_HOME``, with the SuperLink's database."""
        return self.folder / "flower"

    @property
    def bundle(self) -> Path:
        """The generated app bundle."""
        return self.folder / "fab"

    @property
    def logs(self) -> Path:
        """Folder of the logs, one file a process."""
        return self.folder / "logs"

    @property
    def runs(self) -> Path:
        """Folder of the run folders."""
        return self.folder / "runs"

    def run_dir(self, name: str) -> Path:
        """The folder of a run.

        Raises:
            RunFolderError: no run has that name.
        """
        folder = self.runs / name
        if not _RUN_NAME.fullmatch(name) or not (folder / "config.yaml").is_file():
            known = sorted(path.parent.name for path in self.runs.glob("[!.]*/config.yaml"))
            raise RunFolderError(f"run {name!r}: expected one of {', '.join(known) or 'none yet'}")
        return folder

    def newest(self) -> str | None:
        """Name of the run whose events were written last; None where there is no run."""
        paths = sorted(self.runs.glob("[!.]*/events.jsonl"), key=lambda path: path.stat().st_mtime)
        return paths[-1].parent.name if paths else None

    def wanted(self) -> str | None:
        """Name of the run that is to be under way.

        Raises:
            DamagedFileError: ``wanted.json`` does not say.
        """
        found = read_json(self.folder / "wanted.json", "run")
        return None if found is None else str(found["run"])

    def want(self, name: str | None) -> None:
        """Say which run is to be under way; None for none."""
        path = self.folder / "wanted.json"
        if name is None:
            path.unlink(missing_ok=True)
        else:
            write_json(path, {"run": name})
