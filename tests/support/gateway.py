"""A real gateway for tests: nginx, the enrolment service and an upstream, on loopback ports, ended with the test.

The upstream here stands where the SuperLink does: it answers 200 to everything and remembers what reached it, so
that a test can say that a refused request did not.
"""

from __future__ import annotations

import datetime
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fl_client.node.identity import Identity
from fl_client.node.keys import node_key_of
from fl_core.identity import node_key_pem
from fl_server.gateway.authority import init_authority
from fl_server.gateway.nginx import REQUESTS_OF_ADDRESS, GatewaySettings, nginx_command, write_nginx_conf
from fl_server.gateway.service import service_command

START_S = 90.0
needs_nginx = pytest.mark.skipif(
    shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") is None,
    reason="nginx is not installed: apt install nginx-light",
)
"""Of tests against the real gateway, which a machine with Python alone cannot run."""


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes] | None = None) -> None:
    """Until something listens, for at most ``START_S``."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert process is None or process.poll() is None, f"{process.args} ended with {process.returncode}"
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise AssertionError(f"nothing listens on port {port}")


@contextmanager
def running(command: list[str], port: int, uid: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process that listens on ``port``, ended at the end."""
    process = subprocess.Popen(command, user=uid)
    try:
        wait_for_port(port, process)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass
class Upstream:
    """What reached the place of the SuperLink: (method, path, headers, bytes of the body)."""

    port: int
    seen: list[tuple[str, str, dict[str, str], int]] = field(default_factory=list)


@contextmanager
def recording_upstream() -> Iterator[Upstream]:
    """A server that answers 200 to everything with as many bytes as it got."""
    upstream = Upstream(0)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one packet for headers and body: two would wait for each other's acknowledgement

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            upstream.seen.append((self.command, self.path, dict(self.headers), len(body)))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()

        do_GET = do_PUT = do_DELETE = do_POST

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    upstream.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield upstream
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(frozen=True)
class RunningGateway:
    """A gateway of ``root`` on ``port``, with what it needs behind it."""

    root: Path
    port: int
    service_port: int
    upstream: Upstream
    nginx: subprocess.Popen[bytes]
    service: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """What a board is given."""
        return f"https://localhost:{self.port}"


@contextmanager
def running_gateway(
    root: Path,
    superlink: str | None = None,
    max_body_bytes: int = 8_000_000,
    uid: int | None = None,
    requests_of_address: int = REQUESTS_OF_ADDRESS,
    hosts: Sequence[str] = ("gateway.example",),
    listen: str = "127.0.0.1",
) -> Iterator[RunningGateway]:
    """Authority, service and nginx under ``root``, before a recording upstream unless ``superlink`` is given.

    With ``uid`` the files and nginx are that user's, which only root can have.
    """
    with ExitStack() as stack:
        upstream = stack.enter_context(recording_upstream())
        port, service_port = free_port(), free_port()
        behind = superlink or f"http://127.0.0.1:{upstream.port}"
        with _acting_as(uid):
            init_authority(root, hosts, datetime.datetime.now(datetime.timezone.utc))
            write_nginx_conf(
                root, GatewaySettings(port, service_port, behind, listen, max_body_bytes, requests_of_address)
            )
        service = stack.enter_context(running(service_command(root, service_port), service_port))
        nginx = stack.enter_context(running(nginx_command(root), port, uid))
        yield RunningGateway(root, port, service_port, upstream, nginx, service)


@contextmanager
def _acting_as(uid: int | None) -> Iterator[None]:
    if uid is None:
        yield
        return
    before = os.geteuid()
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(before)


def client_context(gateway_root: Path, identity: Identity | None = None) -> ssl.SSLContext:
    """TLS that trusts the gateway, showing the certificate of ``identity`` if there is one."""
    context = ssl.create_default_context(cafile=gateway_root / "ca" / "ca.pem")
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # Python's own choice from 3.13 on
    if identity is not None:
        identity.keys.show(context, identity.certificate)
    return context


def connect(gateway: RunningGateway, identity: Identity | None = None) -> http.client.HTTPSConnection:
    """An unopened connection to the gateway."""
    context = client_context(gateway.root, identity)
    return http.client.HTTPSConnection("localhost", gateway.port, timeout=15, context=context)


def node_headers(identity: Identity | None) -> dict[str, str]:
    """The header in which Flower's SuperNode names its key."""
    if identity is None:
        return {}
    pem = node_key_pem(node_key_of(identity.node_key).public_key())
    return {"flwr-public-key": b64encode(pem).decode(), "Content-Type": "application/x-protobuf"}


def fleet_call(
    connection: http.client.HTTPSConnection,
    key_of: Identity | None,
    body: bytes = b"x",
    *,
    path: str = "/v1/fleet/pull-messages",
    method: str = "POST",
    headers: dict[str, str] | None = None,
) -> tuple[int, str]:
    """One request; its status and the reason of a refusal (empty if it passed)."""
    connection.request(method, path, body, {**node_headers(key_of), **(headers or {})})
    response = connection.getresponse()
    data = response.read()
    return response.status, "" if response.status == 200 else str(json.loads(data)["detail"])
