"""A real SuperNode behind forwarder, gateway and a real SuperLink: it comes online, and a revocation ends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest

from fl_client.node.forwarder import forwarder_command, write_forwarder_conf
from fl_client.node.identity import enrol
from fl_client.node.keys import node_key_of
from fl_core.errors import RoundError
from fl_core.flower_private.superlink import ControlApi
from fl_core.identity import node_key_pem
from fl_server.deploy.control import Control, environment
from fl_server.deploy.home import ServerHome, Settings
from fl_server.deploy.registrar import NodeRegistrar
from fl_server.gateway.authority import init_authority
from fl_server.gateway.devices import DeviceRegistry
from fl_server.gateway.layout import GatewayFiles
from fl_server.gateway.operate import approved_keys, create_token, retired_keys, revoke_device
from fl_server.gateway.routes import FLEET_CALLS
from support.gateway import free_port, needs_nginx, running, running_gateway

pytestmark = [pytest.mark.xdist_group("real processes"), needs_nginx]
BIN = Path(sys.executable).parent
START_S = 60.0


def test_the_gateway_passes_what_this_release_of_flower_calls_and_no_registration() -> None:
    from flwr.superlink.routers.fleet.router import router

    calls = {str(route.path).rpartition("/")[2] for route in router.routes}  # type: ignore[attr-defined]
    assert calls == {*FLEET_CALLS, "register-node", "unregister-node"}


@pytest.mark.slow
def test_a_supernode_comes_online_through_forwarder_and_gateway_and_ends_when_it_is_revoked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, board = tmp_path / "server", tmp_path / "board"
    port = free_port()
    files = GatewayFiles(root)
    init_authority(root, [], datetime.now(timezone.utc))
    flower = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "FLWR_HOME": str(tmp_path / "flower"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
    }
    for name, value in flower.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "flower").mkdir()
    (tmp_path / "flower" / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "127.0.0.1:{port}"\n'
        f'root-certificates = "{files.ca_certificate}"\n'
    )

    def flwr(*arguments: str) -> dict[str, object]:
        done = subprocess.run(
            [str(BIN / "flwr"), *arguments, "here", "--format", "json"],
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return dict(json.loads(done.stdout))

    with running(superlink(root, port), port), running_gateway(root, f"https://127.0.0.1:{port}") as gateway:
        identity, _ = enrol(board, gateway.url, create_token(root, client_id="pi-1", auto_approve=True))
        (key,) = approved_keys(root)
        ControlApi(f"127.0.0.1:{port}", files.ca_certificate.read_bytes()).register_node(key.pem, key.client_id)
        forwarder, runtime = free_port(), free_port()
        write_forwarder_conf(identity, board / "forwarder", forwarder)
        with running(forwarder_command(board / "forwarder"), forwarder):
            command = [
                str(BIN / "flower-supernode"), "--superlink", f"127.0.0.1:{forwarder}",
                "--root-certificates", str(identity.loopback_certificate),
                "--auth-supernode-private-key", str(identity.node_key), "--host", "127.0.0.1", "--port", str(runtime),
            ]  # fmt: skip
            with running(command, runtime) as supernode:
                wait_until(lambda: '"online"' in json.dumps(flwr("supernode", "list")), START_S)
                revoked_at = time.monotonic()
                revoke_device(root, "pi-1")
                supernode.wait(60)
                assert time.monotonic() - revoked_at < 60
    assert approved_keys(root) == []
    assert retired_keys(root) == [key]


@pytest.mark.slow
def test_a_new_server_goes_on_from_what_the_superlink_was_told_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = ServerHome(tmp_path / "server", Settings(superlink_port=free_port()))
    for name, value in environment(home).items():
        monkeypatch.setenv(name, value)
    init_authority(home.folder, [], datetime.now(timezone.utc))
    for name in ("pi-1", "pi-2"):
        put_in(home, name)
    port, control = home.settings.superlink_port, Control(home)
    with running(superlink(home.folder, port), port):
        key, _ = approved_keys(home.folder)
        node_id = control.register(key.pem, key.client_id)
        with pytest.raises(RoundError, match="in use"):
            control.register(key.pem, key.client_id)
        assert NodeRegistrar(home, control).sync() == 1
        assert control.nodes().keys() == {each.pem for each in approved_keys(home.folder)}
        with DeviceRegistry(GatewayFiles(home.folder).devices) as registry:
            registry.revoke("pi-1")
        control.unregister(node_id)
        with pytest.raises(RoundError, match="not found"):
            control.unregister(node_id)
        assert NodeRegistrar(home, control).sync() == 0
        control.stop("123")  # a run that it does not know is not under way
        assert control.nodes().keys() == {each.pem for each in approved_keys(home.folder)}


def superlink(root: Path, port: int) -> list[str]:
    """The command line of a SuperLink for the server's folder ``root``."""
    files = GatewayFiles(root)
    return [
        str(BIN / "flower-superlink"), "--enable-supernode-auth", "--disable-runtime-dependency-installation",
        "--ssl-ca-certfile", str(files.ca_certificate), "--ssl-certfile", str(files.server_certificate),
        "--ssl-keyfile", str(files.server_key), "--host", "127.0.0.1", "--port", str(port),
        "--database", str(root.parent / "state.sqlite"),
    ]  # fmt: skip


def put_in(home: ServerHome, name: str) -> None:
    """An approved device with a key of the kind that Flower takes."""
    key = node_key_pem(node_key_of(home.folder.parent / name).public_key()).decode()
    with DeviceRegistry(GatewayFiles(home.folder).devices) as registry:
        registry.add_token(name.encode(), 100.0, name, True)
        registry.use_token(name.encode(), name, key, 0.0)


def wait_until(holds: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(0.5)
