"""Who gets through a real gateway: nginx and the enrolment service, with an upstream that says what reached it.

Each refusal is checked from both sides: the client reads a reason, and nothing reaches the place of the SuperLink.
"""

from __future__ import annotations

import datetime
import os
import tempfile
import time
from pathlib import Path

import pytest

from fl_client.node.identity import Identity, ask_server, enrol
from fl_core.errors import IdentityError
from fl_server.gateway.authority import Authority, init_authority
from fl_server.gateway.devices import DeviceRegistry
from fl_server.gateway.layout import GatewayFiles
from fl_server.gateway.operate import approve_device, create_token, list_devices
from support.gateway import (
    RunningGateway,
    connect,
    fleet_call,
    needs_nginx,
    node_headers,
    running_gateway,
)

pytestmark = [pytest.mark.xdist_group("real processes"), needs_nginx]
NOBODY = 65534


def assert_refused(gateway: RunningGateway, identity: Identity | None, key_of: Identity | None, reason: str) -> None:
    before = len(gateway.upstream.seen)
    connection = connect(gateway, identity)
    status, said = fleet_call(connection, key_of)
    connection.close()
    assert status == 401
    assert reason in said
    assert len(gateway.upstream.seen) == before


def test_an_approved_device_passes_with_a_body_larger_than_a_chunk(gateway: RunningGateway, steady: Identity) -> None:
    connection = connect(gateway, steady)
    assert fleet_call(connection, steady, bytes(6_000_000), path="/v1/fleet/push-object") == (200, "")
    connection.close()
    method, path, headers, size = gateway.upstream.seen[-1]
    assert (method, path, size) == ("POST", "/v1/fleet/push-object", 6_000_000)
    assert headers["flwr-public-key"] == node_headers(steady)["flwr-public-key"]
    device = next(device for device in list_devices(gateway.root) if device.client_id == steady.client_id)
    assert device.last_seen_s == pytest.approx(time.time(), abs=10)


def test_a_client_without_a_certificate_is_refused(gateway: RunningGateway, steady: Identity) -> None:
    assert_refused(gateway, None, steady, "a client certificate is needed")


def test_a_certificate_of_another_authority_is_refused(
    gateway: RunningGateway, board: Identity, tmp_path: Path
) -> None:
    other = init_authority(tmp_path / "other", [], datetime.datetime.now(datetime.timezone.utc))
    now = datetime.datetime.now(datetime.timezone.utc)
    board.certificate.write_bytes(other.sign_device(board.keys.request(), board.client_id, now).pem)
    assert_refused(gateway, board, board, "certificate refused")


def test_a_certificate_of_our_authority_that_no_enrolment_issued_is_refused(
    gateway: RunningGateway, board: Identity
) -> None:
    authority = Authority(GatewayFiles(gateway.root))
    now = datetime.datetime.now(datetime.timezone.utc)
    board.certificate.write_bytes(authority.sign_device(board.keys.request(), board.client_id, now).pem)
    assert_refused(gateway, board, board, "not one of an enrolled device")


def test_an_expired_certificate_is_refused(gateway: RunningGateway, board: Identity) -> None:
    files = GatewayFiles(gateway.root)
    then = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=8)
    issued = Authority(files).sign_device(board.keys.request(), board.client_id, then, days=7.0)
    with DeviceRegistry(files.devices) as registry:
        registry.add_certificate(board.client_id, issued, then.timestamp())
    board.certificate.write_bytes(issued.pem)
    assert_refused(gateway, board, board, "certificate has expired")


def test_a_pending_device_is_refused_until_an_operator_approves(gateway: RunningGateway, tmp_path: Path) -> None:
    identity, status = enrol(tmp_path, gateway.url, create_token(gateway.root, client_id="waits"))
    assert (identity.client_id, status, ask_server(tmp_path)["status"]) == ("waits", "pending", "pending")
    assert_refused(gateway, identity, identity, "waits for the operator's approval")
    approve_device(gateway.root, "waits")
    connection = connect(gateway, identity)
    assert fleet_call(connection, identity) == (200, "")
    connection.close()
    assert ask_server(tmp_path)["status"] == "approved"


def test_a_revoked_device_is_out_at_its_next_request_on_an_open_connection(
    gateway: RunningGateway, board: Identity, tmp_path: Path
) -> None:
    with DeviceRegistry(GatewayFiles(gateway.root).devices) as registry:
        connection = connect(gateway, board)
        assert fleet_call(connection, board) == (200, "")
        open_socket = connection.sock
        registry.revoke(board.client_id)  # no reload of nginx: the connection stays
        assert fleet_call(connection, board) == (401, "this device is revoked")
        assert connection.sock is open_socket
        connection.close()
    assert_refused(gateway, board, board, "this device is revoked")
    with pytest.raises(IdentityError, match="this device is revoked"):
        ask_server(tmp_path)


def test_the_certificate_of_one_device_with_the_node_key_of_another_is_refused(
    gateway: RunningGateway, steady: Identity, tmp_path: Path
) -> None:
    other, _ = enrol(tmp_path / "other", gateway.url, create_token(gateway.root, auto_approve=True))
    assert_refused(gateway, steady, other, "this node key does not belong to this certificate")
    assert_refused(gateway, steady, None, "the node key is missing")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/list-runs",
        "/v1/runtime/acquire-task",
        "/v1/fleet/../control/list-runs",
        "/v1/fleet/%2e%2e/control/list-runs",
        "/v1/control/list-runs/../../fleet/none",
        "/v1/fleet/pull-messages/../../control/start-run",
        "/v1/fleet/register-node",
        "/v1/fleet/unregister-node",
        "/v1/fleet/",
        "/internal/auth",
        "/auth",
        "/healthz",
        "/docs",
        "/",
    ],
)
def test_nothing_but_the_calls_of_a_supernode_passes(gateway: RunningGateway, steady: Identity, path: str) -> None:
    before = len(gateway.upstream.seen)
    connection = connect(gateway, steady)
    assert fleet_call(connection, steady, path=path)[0] == 404
    connection.close()
    assert len(gateway.upstream.seen) == before


@pytest.mark.parametrize(
    "path",
    ["/v1//fleet/pull-messages", "/v1/control/..%2ffleet/pull-messages", "/v1/fleet/pull-messages?x=/v1/control"],
)
def test_a_path_that_is_written_oddly_reaches_the_superlink_as_the_plain_call_or_not_at_all(
    gateway: RunningGateway, steady: Identity, path: str
) -> None:
    before = len(gateway.upstream.seen)
    connection = connect(gateway, steady)
    fleet_call(connection, steady, path=path)
    connection.close()
    assert {seen[1] for seen in gateway.upstream.seen[before:]} <= {"/v1/fleet/pull-messages"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start as another user")
def test_the_gateway_runs_as_an_unprivileged_user() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # where another user may go
        os.chown(folder, NOBODY, NOBODY)
        with running_gateway(Path(folder) / "server", uid=NOBODY) as gateway:
            owners = {line for line in Path(f"/proc/{gateway.nginx.pid}/status").read_text().splitlines()}
            assert f"Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}" in owners
            token = create_token(gateway.root, auto_approve=True)
            identity, _ = enrol(Path(folder) / "board", gateway.url, token)
            connection = connect(gateway, identity)
            assert fleet_call(connection, identity, bytes(6_000_000)) == (200, "")
            connection.close()
