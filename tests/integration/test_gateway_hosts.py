"""However a host is written, its certificate holds what a device looks for: real handshakes and real enrolments."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from fl_client.node.forwarder import forwarder_command, write_forwarder_conf
from fl_client.node.gateway_call import parse_address
from fl_client.node.identity import enrol
from fl_core.hostnames import bracketed
from fl_server.deploy.home import Settings
from fl_server.gateway.operate import create_token
from support.gateway import (
    RunningGateway,
    client_context,
    free_port,
    needs_nginx,
    node_headers,
    running,
    running_gateway,
)

pytestmark = needs_nginx
GIVEN = ("bücher.example", "Fleet.Example.", "fd00:0::5", "10.0.0.7")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway that was given these hosts, and listens on all addresses of both kinds."""
    hosts = [Settings(host).host for host in GIVEN]
    with running_gateway(tmp_path_factory.mktemp("server"), hosts=hosts, listen="::") as running_one:
        yield running_one


def greet(port: int, context: ssl.SSLContext, name: str, request: str = "") -> bytes:
    """What a server on loopback answers first, after a handshake in which ``name`` was looked for."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as encrypted,
    ):
        encrypted.sendall(request.encode())
        return encrypted.recv(100) if request else b""


@pytest.mark.parametrize("url", [f"https://{bracketed(host)}" for host in GIVEN])
def test_the_certificate_holds_what_a_device_checks_of_a_url(gateway: RunningGateway, url: str) -> None:
    greet(gateway.port, client_context(gateway.root), parse_address(url)[0])


@pytest.mark.parametrize("other", ["fd00::6", "10.0.0.8", "xn--bcher-kva.example.org"])
def test_a_host_that_was_not_given_is_not_accepted_by_a_device(gateway: RunningGateway, other: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        greet(gateway.port, client_context(gateway.root), other)


@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]", "LOCALHOST."])
def test_a_board_enrols_and_its_supernode_passes_by_address_and_by_name(
    gateway: RunningGateway, tmp_path: Path, address: str
) -> None:
    token = create_token(gateway.root, auto_approve=True)
    identity, status = enrol(tmp_path, f"https://{address}:{gateway.port}", token)
    assert status == "approved"
    port = free_port()
    write_forwarder_conf(identity, tmp_path / "forwarder", port)
    context = ssl.create_default_context(cafile=identity.loopback_certificate)
    headers = "".join(f"{name}: {value}\r\n" for name, value in node_headers(identity).items())
    request = f"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 1\r\n\r\nx"
    with running(forwarder_command(tmp_path / "forwarder"), port):
        assert greet(port, context, "127.0.0.1", request).startswith(b"HTTP/1.1 200")
