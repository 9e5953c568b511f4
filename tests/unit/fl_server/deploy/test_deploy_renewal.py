"""The server's certificate is renewed in time and for the host of the settings; the SuperLink starts on it, once."""

from __future__ import annotations

import datetime
import errno
from pathlib import Path

import pytest

from fl_server.deploy.renewal import ServerCertificateRenewal
from fl_server.gateway import authority
from fl_server.gateway.authority import init_authority
from fl_server.gateway.layout import GatewayFiles

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.timezone.utc)
DAY = datetime.timedelta(days=1)


def test_a_server_that_stays_up_never_shows_an_old_certificate(tmp_path: Path) -> None:
    init_authority(tmp_path, ["fleet.example"], NOW)
    certificate = GatewayFiles(tmp_path).server_certificate
    restarted: list[str] = []
    renewal = ServerCertificateRenewal(tmp_path, "fleet.example", lambda: restarted.append("superlink"))
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
    assert not ServerCertificateRenewal(tmp_path, "fleet.example", lambda: restarted.append("superlink")).step(
        NOW + 300 * DAY
    )
    assert restarted == []


def test_a_full_disk_does_not_end_the_server_and_the_next_day_makes_up_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init_authority(tmp_path, ["fleet.example"], NOW)
    restarted: list[str] = []
    renewal = ServerCertificateRenewal(tmp_path, "fleet.example", lambda: restarted.append("superlink"))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(authority, "write_atomic", full)
        assert not renewal.step(NOW + 300 * DAY)
    assert renewal.step(NOW + 301 * DAY)
    assert restarted == ["superlink"]


@pytest.mark.parametrize(("host", "renewed"), [("new.example", True), ("no näme", False)])
def test_an_edited_host_is_certified_at_the_next_start_where_it_is_one(
    tmp_path: Path, host: str, renewed: bool
) -> None:
    init_authority(tmp_path, ["fleet.example"], NOW)
    assert ServerCertificateRenewal(tmp_path, host, lambda: None).step(NOW) == renewed
