"""How a board gets, renews and loses its identity, against a real gateway; and how its forwarder carries it."""

from __future__ import annotations

import http.client
import sqlite3
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fl_client.node.forwarder import forwarder_command, write_forwarder_conf
from fl_client.node.identity import Identity, enrol, load_identity, renew_if_due
from fl_core.errors import IdentityError
from fl_core.identity import ENROL_PATH, EnrolmentToken
from fl_server.gateway.layout import GatewayFiles
from fl_server.gateway.nginx import reload_nginx
from fl_server.gateway.operate import create_token
from support.gateway import (
    RunningGateway,
    connect,
    fleet_call,
    free_port,
    needs_nginx,
    node_headers,
    running,
    running_gateway,
)

pytestmark = needs_nginx
DAY_S = 86400.0


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("server")) as running_one:
        yield running_one


def test_a_token_serves_one_device_only_and_that_one_again_if_the_answer_was_lost(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    token = create_token(gateway.root, auto_approve=True)
    identity, _ = enrol(tmp_path / "one", gateway.url, token)
    assert enrol(tmp_path / "one", gateway.url, token)[0] == identity
    with pytest.raises(IdentityError, match="already used"):
        enrol(tmp_path / "two", gateway.url, token)
    with pytest.raises(IdentityError, match="not enrolled"):
        load_identity(tmp_path / "two")


def test_an_expired_an_unknown_and_a_foreign_token_are_refused(gateway: RunningGateway, tmp_path: Path) -> None:
    expired = create_token(gateway.root, hours=1, now_s=time.time() - 3601)
    with pytest.raises(IdentityError, match="expired"):
        enrol(tmp_path, gateway.url, expired)
    known = EnrolmentToken.parse(expired)
    with pytest.raises(IdentityError, match="unknown to this server"):
        enrol(tmp_path, gateway.url, EnrolmentToken(bytes(32), known.ca_fingerprint).text())
    with pytest.raises(IdentityError, match="the wrong server, or somebody between"):
        enrol(tmp_path, gateway.url, EnrolmentToken(known.secret, bytes(32)).text())


def test_a_new_enrolment_ends_the_certificates_of_the_old_one(gateway: RunningGateway, tmp_path: Path) -> None:
    tokens = [create_token(gateway.root, client_id="again", auto_approve=True) for _ in range(2)]
    old, new = (enrol(tmp_path / str(index), gateway.url, token)[0] for index, token in enumerate(tokens))
    connection = connect(gateway, old)
    status, said = fleet_call(connection, old)
    connection.close()
    assert status == 401
    assert "not one of an enrolled device" in said
    connection = connect(gateway, new)
    assert fleet_call(connection, new) == (200, "")
    connection.close()


def test_a_board_with_a_wrong_clock_is_told_so(gateway: RunningGateway, tmp_path: Path) -> None:
    token = create_token(gateway.root, auto_approve=True)
    for wrong_by_s in (-3600.0, 3600.0, -1e9):
        with pytest.raises(IdentityError, match=r"the clock of this board says .* the server's"):
            enrol(tmp_path, gateway.url, token, lambda shift=wrong_by_s: time.time() + shift)
    enrol(tmp_path, gateway.url, token, lambda: time.time() + 60)
    with pytest.raises(IdentityError, match="the clock of this board says"):
        renew_if_due(tmp_path, lambda: time.time() - DAY_S)


def test_a_certificate_is_renewed_while_72_hours_remain(gateway: RunningGateway, tmp_path: Path) -> None:
    identity, _ = enrol(tmp_path, gateway.url, create_token(gateway.root, auto_approve=True))
    first = identity.certificate.read_bytes()
    assert not renew_if_due(tmp_path, lambda: time.time() + 3 * DAY_S)
    assert renew_if_due(tmp_path, lambda: time.time() + 3.6 * DAY_S)
    assert identity.certificate.read_bytes() != first
    connection = connect(gateway, identity)
    assert fleet_call(connection, identity) == (200, "")
    connection.close()


def test_the_service_answers_nobody_but_nginx(gateway: RunningGateway, tmp_path: Path) -> None:
    board: Identity = enrol(tmp_path, gateway.url, create_token(gateway.root, auto_approve=True))[0]
    connection = http.client.HTTPConnection("127.0.0.1", gateway.service_port, timeout=10)
    escaped = board.certificate.read_text().replace("\n", "%0A").replace(" ", "%20")
    for path in ("/v1/renew", "/auth", ENROL_PATH):
        connection.request("POST", path, b"{}", {"x-client-certificate": escaped, "x-gateway-secret": "0" * 64})
        response = connection.getresponse()
        response.read()
        assert response.status == 403
    connection.close()


def test_the_forwarder_adds_the_certificate_and_takes_up_a_renewed_certificate(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    identity, _ = enrol(tmp_path, gateway.url, create_token(gateway.root, auto_approve=True))
    port = free_port()
    write_forwarder_conf(identity, tmp_path / "forwarder", port)
    with running(forwarder_command(tmp_path / "forwarder"), port):
        assert through(port, identity) == 200
        assert through(port, identity, "/v1/renew") == 404
        old_fingerprint = ssl.PEM_cert_to_DER_cert(identity.certificate.read_text())
        assert renew_if_due(tmp_path, lambda: time.time() + 5 * DAY_S)
        assert ssl.PEM_cert_to_DER_cert(identity.certificate.read_text()) != old_fingerprint
        forget_all_but_the_newest(gateway, identity.client_id)
        assert reload_nginx(gateway.root)  # ends the connection that still shows the old one
        end = time.monotonic() + 10
        while (status := through(port, identity)) != 200 and time.monotonic() < end:
            time.sleep(0.1)
        assert status == 200


def forget_all_but_the_newest(gateway: RunningGateway, client_id: str) -> None:
    with sqlite3.connect(GatewayFiles(gateway.root).devices, timeout=10) as database:
        database.execute(
            "DELETE FROM certificates WHERE client_id = ? AND rowid NOT IN (SELECT MAX(rowid) FROM certificates "
            "WHERE client_id = ?)",
            (client_id, client_id),
        )
    database.close()


def test_a_stream_of_enrolments_is_slowed_down(tmp_path: Path) -> None:
    with running_gateway(tmp_path / "server") as gateway:
        statuses = []
        connection = connect(gateway)
        for _ in range(80):
            statuses.append(fleet_call(connection, None, b"{}", path=ENROL_PATH)[0])
        connection.close()
    assert statuses[0] == 422
    assert statuses.count(429) >= 10


@pytest.mark.slow
def test_a_running_board_goes_on_with_the_identity_of_a_new_enrolment(gateway: RunningGateway, tmp_path: Path) -> None:
    tokens = [create_token(gateway.root, client_id="re-enrolled", auto_approve=True) for _ in range(2)]
    old, _ = enrol(tmp_path, gateway.url, tokens[0])
    port, secret = free_port(), tmp_path / "secret"
    secret.write_text("a secret\n")
    node = [sys.executable, "-m", "fl_client.cli", "node", "--socket", str(tmp_path / "none"), "--secret", str(secret)]
    with running([*node, "--home", str(tmp_path), "--forwarder-port", str(port)], port):
        assert through(port, old) == 200
        new, _ = enrol(tmp_path, gateway.url, tokens[1])
        end, status = time.monotonic() + 60, None
        while status != 200 and time.monotonic() < end:
            time.sleep(0.2)
            with suppress(OSError):  # it starts again, or new.loopback_certificate is not there yet
                status = through(port, new)
        assert status == 200


def through(port: int, identity: Identity, path: str = "/v1/fleet/push-object") -> int:
    """The status of what comes back through the forwarder on ``port``."""
    trust = ssl.create_default_context(cafile=identity.loopback_certificate)
    trust.verify_flags |= ssl.VERIFY_X509_STRICT
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=trust)
    try:
        connection.request("POST", path, bytes(6_000_000), node_headers(identity))
        response = connection.getresponse()
        response.read()
    finally:
        connection.close()
    return response.status
