"""The services of a board for systemd: three users, so that what speaks with a server reads no data.

    stonecrop        the trainer: data, ledger, policy; talks to nobody but through its socket
    stonecrop-node   forwarder and SuperNode: the keys; sees neither data nor ledger
    stonecrop-app    the shells that answer a server's messages: the trainer's socket, and loopback

The units ask for systemd 247 or newer (Ubuntu 22.04 has 249, Debian 12 has 252).
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fl_client.trainer.stopping import UNIT_STOP_S
from fl_core.errors import FINAL_CODES, ConfigError
from fl_core.files import write_atomic, write_secret
from fl_core.process.structured_log import FORMAT_VARIABLE, LogFormat

SOCKET = Path("/run/stonecrop/trainer.sock")
SECRET = Path("/etc/stonecrop/superexec.secret")
UNITS = ("stonecrop-trainer.service", "stonecrop-node.service", "stonecrop-app.service")

_USERS = """\
# Written by Stonecrop.
u stonecrop - "Stonecrop trainer" /var/lib/stonecrop
u stonecrop-node - "Stonecrop SuperNode" /var/lib/stonecrop-node
u stonecrop-app - "Stonecrop app shell" /
"""

_HARDENING = """\
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
PrivateTmp=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
CapabilityBoundingSet=
AmbientCapabilities=
SystemCallArchitectures=native
SystemCallFilter=@system-service
UMask=0077
"""

_TRAINER = """\
# Written by Stonecrop. The trainer: torch, data, ledger, policy; no network but the metrics on loopback.
[Unit]
Description=Stonecrop trainer

[Service]
Type=exec
User=stonecrop
Group=stonecrop-app
StateDirectory=stonecrop
StateDirectoryMode=0700
RuntimeDirectory=stonecrop
RuntimeDirectoryMode=0751
ExecStart={python} -m fl_client.trainer --home {home} --socket {socket} --metrics-port {metrics_port}
Restart=always
RestartSec=5
RestartPreventExitStatus={final}
TimeoutStopSec={stop_s:g}
OOMScoreAdjust=200
RestrictAddressFamilies=AF_UNIX AF_INET
IPAddressDeny=any
IPAddressAllow=localhost
{common}
[Install]
WantedBy=multi-user.target
"""

_NODE = """\
# Written by Stonecrop. Forwarder and SuperNode: the keys, and the only way to the server.
[Unit]
Description=Stonecrop SuperNode
Wants=network-online.target time-sync.target
After=network-online.target time-sync.target stonecrop-trainer.service
StartLimitIntervalSec=0

[Service]
Type=exec
User=stonecrop-node
Group=stonecrop-node
StateDirectory=stonecrop-node
StateDirectoryMode=0700
LoadCredential=superexec:{secret}
ExecStart={own_python} -m fl_client.cli node --home {node_home} --socket {socket} \
--secret ${{CREDENTIALS_DIRECTORY}}/superexec
Restart=always
RestartSec=10
RestartPreventExitStatus={final}
TimeoutStopSec={stop_s:g}
InaccessiblePaths=-{home}
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
{common}
[Install]
WantedBy=multi-user.target
"""

_APP = """\
# Written by Stonecrop. What answers a server's messages: it reaches the trainer's socket, and loopback.
[Unit]
Description=Stonecrop app shell
After=stonecrop-node.service
StartLimitIntervalSec=0

[Service]
Type=exec
User=stonecrop-app
Group=stonecrop-app
RuntimeDirectory=stonecrop-app
RuntimeDirectoryMode=0700
LoadCredential=superexec:{secret}
Environment=FLWR_HOME=/run/stonecrop-app HOME=/run/stonecrop-app
Environment=FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1 FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1
Environment=PATH={programs}:/usr/bin:/bin
ExecStart={own_python} -m fl_client.board.superexec --insecure --runtime-api-address 127.0.0.1:{supernode_port} \
--superexec-auth-secret-file ${{CREDENTIALS_DIRECTORY}}/superexec
Restart=always
RestartSec=5
MemoryMax=1G
TasksMax=64
InaccessiblePaths=-{home} -{node_home} -/media -/mnt -/srv
PrivateDevices=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_UNIX AF_INET
IPAddressDeny=any
IPAddressAllow=localhost
{common}
[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Installation:
    """Where things are on the board."""

    home: Path = Path("/var/lib/stonecrop")
    node_home: Path = Path("/var/lib/stonecrop-node")
    trainer_python: Path = Path(sys.executable)
    """The interpreter whose torch trains; another one than this command's on a Jetson."""
    metrics_port: int = 9122
    supernode_port: int = 9121
    log_format: LogFormat = LogFormat.TEXT

    def __post_init__(self) -> None:
        for path in (self.home, self.node_home, self.trainer_python):
            if not path.is_absolute() or any(character.isspace() or character in "%$\"'\\" for character in str(path)):
                raise ConfigError(f"service: expected an absolute path without blanks, quotes, % or $, got {path}")


def units(where: Installation) -> dict[str, str]:
    """The text of each unit by file name."""
    programs = Path(sys.executable).parent
    words: Mapping[str, object] = {
        "python": where.trainer_python,
        "home": where.home,
        "node_home": where.node_home,
        "metrics_port": where.metrics_port,
        "supernode_port": where.supernode_port,
        "socket": SOCKET,
        "secret": SECRET,
        "programs": programs,
        "final": " ".join(map(str, sorted(FINAL_CODES))),
        "stop_s": UNIT_STOP_S,
        "own_python": sys.executable,
        "common": f"Environment={FORMAT_VARIABLE}={where.log_format.value}\n{_HARDENING}",
    }
    return {name: text.format(**words) for name, text in zip(UNITS, (_TRAINER, _NODE, _APP), strict=True)}


def install(where: Installation, system: Path = Path("/")) -> list[Path]:
    """Write units, users and the secret of the shells below ``system``; gives the paths. Nothing is started.

    A secret that is there already stays. On the running system (``/``) users are made, each with a folder that nobody
    else reads, and systemd reads its units.

    Raises:
        ConfigError: not run as root on the running system, or systemd refuses.
    """
    real = system == Path("/")
    if real and os.geteuid() != 0:
        raise ConfigError("service install: writes units and makes users; run it with sudo")
    written = []
    for name, text in units(where).items():
        path = system / "etc/systemd/system" / name
        write_atomic(path, text.encode())
        path.chmod(0o644)
        written.append(path)
    users = system / "etc/sysusers.d/stonecrop.conf"
    write_atomic(users, _USERS.encode())
    users.chmod(0o644)
    secret = system / SECRET.relative_to("/")
    if not secret.exists():
        write_secret(secret, secrets.token_hex(32).encode())
    if real:
        _run(["systemd-sysusers", str(users)])
        for folder, user, group in (
            (where.home, "stonecrop", "stonecrop-app"),
            (where.node_home, "stonecrop-node", "stonecrop-node"),
        ):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.chown(folder, user, group)
        _run(["systemctl", "daemon-reload"])
    return [*written, users, secret]


def start() -> None:
    """Start the services now and at every boot.

    Raises:
        ConfigError: systemd refuses.
    """
    _run(["systemctl", "enable", "--now", *UNITS])


def _run(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        raise ConfigError(f"service: expected {command[0]} on this system, found none")
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ConfigError(f"service: {' '.join(command)}: {result.stderr.strip()}")
