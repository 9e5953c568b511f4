"""What no approved device can do to a real gateway: fill it with bytes, with unpacked bytes or with open requests.

Each refusal is checked from both sides: the client reads a reason, and nothing reaches the place of the SuperLink.
"""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import ssl
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from fl_client.node.identity import Identity
from fl_core.identity import CA_PATH, ENROL_PATH
from fl_server.gateway.nginx import REQUESTS_OF_DEVICE
from fl_server.gateway.operate import revoke_device
from support.gateway import (
    RunningGateway,
    client_context,
    connect,
    fleet_call,
    needs_nginx,
    node_headers,
    running_gateway,
)

pytestmark = [pytest.mark.xdist_group("real processes"), needs_nginx]


def test_a_body_of_10_gb_is_refused_before_it_is_sent(gateway: RunningGateway, steady: Identity) -> None:
    before = len(gateway.upstream.seen)
    connection = connect(gateway, steady)
    connection.putrequest("POST", "/v1/fleet/push-object")
    for name, value in {**node_headers(steady), "Content-Length": str(10 * 1024**3)}.items():
        connection.putheader(name, value)
    begin = time.monotonic()
    connection.endheaders()
    response = connection.getresponse()
    assert response.status == 413
    assert "more than 8000000 bytes" in json.loads(response.read())["detail"]
    assert time.monotonic() - begin < 5
    connection.close()
    assert len(gateway.upstream.seen) == before


def test_a_body_without_a_length_is_cut_at_the_limit(gateway: RunningGateway, steady: Identity) -> None:
    before = len(gateway.upstream.seen)
    connection = connect(gateway, steady)
    chunks = (bytes(100_000) for _ in range(1_000))  # 100 MB if nobody stops it
    with pytest.raises(OSError, match=r"reset|[Bb]roken pipe|EOF"):  # the gateway hangs up
        connection.request("POST", "/v1/fleet/push-object", chunks, node_headers(steady), encode_chunked=True)
    connection.close()
    assert len(gateway.upstream.seen) == before


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZIP"])
def test_a_decompression_bomb_is_refused(gateway: RunningGateway, steady: Identity, encoding: str) -> None:
    bomb = gzip.compress(bytes(50_000_000), 1)
    before = len(gateway.upstream.seen)
    connection = connect(gateway, steady)
    status, said = fleet_call(connection, steady, bomb, headers={"Content-Encoding": encoding})
    connection.close()
    assert (status, said) == (415, "content encodings are refused")
    assert len(gateway.upstream.seen) == before


def test_a_bomb_does_not_reach_enrolment_either(gateway: RunningGateway) -> None:
    connection = connect(gateway)
    bomb = gzip.compress(bytes(1_000_000))
    assert fleet_call(connection, None, bomb, path=ENROL_PATH, headers={"Content-Encoding": "gzip"})[0] == 415
    connection.close()
    connection = connect(gateway)
    assert fleet_call(connection, None, bytes(40_000), path=ENROL_PATH)[0] == 413
    connection.close()


def open_requests(
    stack: ExitStack, gateway: RunningGateway, count: int, identity: Identity | None = None
) -> list[http.client.HTTPSConnection]:
    """Requests whose bodies never end; each is open once this returns, or was refused."""
    path = "/v1/fleet/push-object" if identity else CA_PATH
    opened = []
    for _ in range(count):
        connection = stack.enter_context(closing(connect(gateway, identity)))
        connection.putrequest("POST" if identity else "GET", path)
        for name, value in {**node_headers(identity), "Content-Length": "1000"}.items():
            connection.putheader(name, value)
        connection.endheaders(b"x")
        opened.append(connection)
    return opened


def assert_only_the_last_is_refused(opened: list[http.client.HTTPSConnection]) -> None:
    response = opened[-1].getresponse()
    assert (response.status, json.loads(response.read())["detail"]) == (503, "too many requests at once from here")
    opened[-2].sock.settimeout(0.5)
    with pytest.raises(TimeoutError):
        opened[-2].getresponse()


def test_bodies_that_drip_in_from_one_address_leave_room_for_other_addresses(tmp_path: Path) -> None:
    with running_gateway(tmp_path, requests_of_address=8) as gateway, ExitStack() as stack:
        opened = open_requests(stack, gateway, 9)
        assert_only_the_last_is_refused(opened)
        context = client_context(gateway.root)
        elsewhere = ("127.0.0.2", 0)
        other = http.client.HTTPSConnection(
            "localhost", gateway.port, timeout=15, source_address=elsewhere, context=context
        )
        with closing(other):
            other.request("GET", CA_PATH)
            assert other.getresponse().status == 200


def test_a_device_with_too_many_open_requests_is_told_to_wait_and_no_other_device_is(
    gateway: RunningGateway, steady: Identity, board: Identity
) -> None:
    with ExitStack() as stack:
        opened = open_requests(stack, gateway, REQUESTS_OF_DEVICE + 1, board)
        assert_only_the_last_is_refused(opened)
        connection = stack.enter_context(closing(connect(gateway, steady)))
        assert fleet_call(connection, steady) == (200, "")


@pytest.mark.slow
def test_an_upload_that_drips_on_after_a_revocation_is_cut_off_within_60_s(
    gateway: RunningGateway, board: Identity
) -> None:
    begun = time.monotonic()
    plain = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
    with client_context(gateway.root, board).wrap_socket(plain, server_hostname="localhost") as tls:
        head = "".join(f"{name}: {value}\r\n" for name, value in node_headers(board).items())
        tls.sendall(f"POST /v1/fleet/push-object HTTP/1.1\r\nHost: x\r\n{head}Content-Length: 1000000\r\n\r\n".encode())
        time.sleep(0.5)
        revoke_device(gateway.root, board.client_id)
        tls.settimeout(1.0)
        with suppress(ConnectionError, ssl.SSLError):
            while time.monotonic() - begun < 70:
                tls.sendall(b"x")
                with suppress(TimeoutError):
                    assert tls.recv(1) == b""
                    break
    assert 1 < time.monotonic() - begun < 60
