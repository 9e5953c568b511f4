"""Flower's Control API on loopback: submit a run, ask for its status, stop it, let nodes in and out.

A run is submitted by Flower's own command, which builds the bundle; the other calls are made from here. The API has no
authentication, so it must never be reachable from outside this machine; the gateway passes on calls of the fleet alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fl_core.errors import RoundError
from fl_core.files import write_atomic
from fl_core.flower_private.superlink import ControlApi
from fl_server.deploy.home import SERVER_VARIABLE, ServerHome
from fl_server.gateway.layout import GatewayFiles

CONNECTION = "loopback"
COMMAND_TIMEOUT_S = 60.0
MAPPED_FROM_BYTES, HEAPS = 1 << 20, 2
"""What glibc is told: freed blocks of this size or more go back to the system, and threads share so many heaps.

By itself it raises the limit as soon as a larger block was freed, and each of a SuperLink's many threads then keeps
models in a heap of its own: its memory grows with the rounds until each thread has held one.
"""
UNDER_WAY = frozenset({"pending", "starting", "running"})


def environment(home: ServerHome) -> dict[str, str]:
    """The environment of Flower's processes: its own home, no network beyond this machine, quick dispatch."""
    return {
        **os.environ,
        SERVER_VARIABLE: str(home.folder),
        "FLWR_HOME": str(home.flower),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        "MALLOC_ARENA_MAX": str(HEAPS),
        "MALLOC_MMAP_THRESHOLD_": str(MAPPED_FROM_BYTES),
        "OMP_NUM_THREADS": "1",
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))),
    }


def write_connection(home: ServerHome) -> None:
    """Write the one connection that Flower's command knows here."""
    certificate = GatewayFiles(home.folder).ca_certificate
    text = (
        f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
        f'address = "127.0.0.1:{home.settings.superlink_port}"\nroot-certificates = "{certificate}"\n'
    )
    write_atomic(home.flower / "config.toml", text.encode())


@dataclass(frozen=True)
class Control:
    """The Control API of one server."""

    home: ServerHome

    def submit(self, run: str) -> str:
        """Start the ServerApp for the run of that name; gives Flower's id of it.

        Raises:
            RoundError: the SuperLink did not take it.
        """
        answer = self._flwr("run", str(self.home.bundle), CONNECTION, "--run-config", f'run="{run}"')
        return str(answer["run-id"])

    def status(self, run_id: str) -> str:
        """Flower's word for how a run is: pending, starting, running or finished.

        Raises:
            RoundError: the SuperLink does not know it, or does not answer.
        """
        return self.api.run_status(run_id)

    def stop(self, run_id: str) -> None:
        """End a run and its ServerApp; one that is not under way stays as it is.

        Raises:
            RoundError: it is under way still, or the SuperLink does not answer.
        """
        try:
            self.api.stop_run(run_id)
        except RoundError:
            if self.api.newest_runs().get(run_id) in UNDER_WAY:
                raise

    def register(self, public_key: bytes, name: str) -> str:
        """Let the SuperNode with this key (SubjectPublicKeyInfo, PEM) in; gives its node id.

        Raises:
            RoundError: the SuperLink did not take it.
        """
        return self.api.register_node(public_key, name)

    def unregister(self, node_id: str) -> None:
        """Let the SuperNode with this node id out again.

        Raises:
            RoundError: there is none of that id, or the SuperLink does not answer.
        """
        self.api.unregister_node(node_id)

    def nodes(self) -> dict[bytes, str]:
        """Node ids of the SuperNodes that are let in, by their public keys as ``register`` took them.

        Raises:
            RoundError: the SuperLink does not answer.
        """
        return self.api.nodes()

    def names(self) -> dict[int, str]:
        """The client_ids under which the SuperNodes that are let in were enrolled, by node id.

        Raises:
            RoundError: the SuperLink does not answer.
        """
        return self.api.names()

    @property
    def api(self) -> ControlApi:
        """The Control API of this server's SuperLink, on loopback."""
        certificate = GatewayFiles(self.home.folder).ca_certificate.read_bytes()
        return ControlApi(f"127.0.0.1:{self.home.settings.superlink_port}", certificate)

    def _flwr(self, *arguments: str) -> Mapping[str, Any]:
        command = [str(Path(sys.executable).parent / "flwr"), *arguments, "--format", "json"]
        what = f"flwr {arguments[0]}"
        try:
            done = subprocess.run(
                command,
                env=environment(self.home),
                cwd=self.home.folder,
                capture_output=True,
                text=True,
                timeout=COMMAND_TIMEOUT_S,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise RoundError(f"{what}: no answer from the SuperLink within {COMMAND_TIMEOUT_S:g} s") from None
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            raise RoundError(f"{what}: expected JSON, got {(done.stdout + done.stderr).strip()[-500:]!r}") from None
        if not answer.get("success"):
            raise RoundError(f"{what}: {str(answer.get('error-message', '')).strip()}")
        return dict(answer)
