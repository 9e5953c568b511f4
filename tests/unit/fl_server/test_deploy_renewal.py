"""The server's certificate is renewed in the last third of its life, and the SuperLink starts on the new one, once."""

from __future__ import annotations

import datetime
from pathlib import Path

from fl_server.deploy.renewal import Renewal
from fl_server.gateway.authority import init_authority
from fl_server.gateway.layout import GatewayFiles

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.timezone.utc)
DAY = datetime.timedelta(days=1)


def test_a_server_that_stays_up_never_shows_an_old_certificate(tmp_path: Path) -> None:
    init_authority(tmp_path, ["fleet.example"], NOW)
    certificate = GatewayFiles(tmp_path).server_certificate
    restarted: list[str] = []
    renewal = Renewal(tmp_path, lambda: restarted.append("superlink"))
    first = certificate.read_bytes()
    assert not renewal.step(NOW)
    assert (certificate.read_bytes(), restarted) == (first, [])
    late = NOW + 300 * DAY
    assert renewal.step(late)
    assert certificate.read_bytes() != first
    assert restarted == ["superlink"]
    assert not renewal.step(late)
    assert not renewal.step(late + DAY)


def test_an_authority_that_cannot_sign_does_not_end_the_server(tmp_path: Path) -> None:
    init_authority(tmp_path, ["fleet.example"], NOW)
    GatewayFiles(tmp_path).ca_key.unlink()
    restarted: list[str] = []
    assert not Renewal(tmp_path, lambda: restarted.append("superlink")).step(NOW + 300 * DAY)
    assert restarted == []
