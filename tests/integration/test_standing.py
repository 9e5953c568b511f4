"""Why a device takes no part is said on both sides, with both releases: of another release, waiting, ended, revoked."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from fl_client.node import gateway_call, standing
from fl_client.node.identity import enrol
from fl_client.node.standing import SERVER_ASKED_EVERY_S, StandingWatch, standing_of
from fl_client.standing import Standing, kept_standing
from fl_client.trainer.metrics import health
from fl_core import __version__
from fl_core.errors import ServerAwayError
from fl_server.gateway.operate import approve_device, create_token, revoke_device
from fl_server.gateway.waiting import devices_waiting
from support.gateway import RunningGateway, needs_nginx

pytestmark = needs_nginx
WEEK_S = 7 * 86400.0


def another_release(monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    """Have this process be a board that holds another release."""
    for module in (gateway_call, standing):
        monkeypatch.setattr(module, "__version__", release)


def test_a_board_of_another_release_is_named_on_both_sides_with_both_releases(
    gateway: RunningGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol(tmp_path, gateway.url, create_token(gateway.root, client_id="older", auto_approve=True))
    another_release(monkeypatch, "0.0.9")
    words = f"holds Stonecrop 0.0.9, its server {__version__};"
    assert f"older: {words}" in str(standing_of(tmp_path).trouble)
    assert words in devices_waiting(gateway.root, time.time())["older"]
    another_release(monkeypatch, __version__)
    assert standing_of(tmp_path) == Standing()
    assert "older" not in devices_waiting(gateway.root, time.time())


def test_a_device_that_waits_for_approval_is_named_on_both_sides(gateway: RunningGateway, tmp_path: Path) -> None:
    enrol(tmp_path, gateway.url, create_token(gateway.root, client_id="waits"))
    assert "waits: waits for approval" in str(standing_of(tmp_path).trouble)
    assert f"fl-server devices approve {gateway.root} waits" in devices_waiting(gateway.root, time.time())["waits"]
    approve_device(gateway.root, "waits")
    assert standing_of(tmp_path) == Standing()
    assert "waits" not in devices_waiting(gateway.root, time.time())


def test_an_ended_certificate_is_named_on_both_sides(
    gateway: RunningGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol(tmp_path, gateway.url, create_token(gateway.root, client_id="ended", auto_approve=True))
    later = time.time() + WEEK_S + 60
    monkeypatch.setattr("fl_client.node.identity.check_clock", lambda *_: None)  # the server's has moved on too
    assert "certificate of ended: it ended at" in str(standing_of(tmp_path, clock=lambda: later).trouble)
    assert "its certificate ended at" in devices_waiting(gateway.root, later)["ended"]


def test_a_revoked_device_is_told_so_and_waits_for_nothing(gateway: RunningGateway, tmp_path: Path) -> None:
    enrol(tmp_path, gateway.url, create_token(gateway.root, client_id="gone", auto_approve=True))
    revoke_device(gateway.root, "gone")
    assert "this device is revoked" in str(standing_of(tmp_path).trouble)
    assert "gone" not in devices_waiting(gateway.root, time.time())


def test_log_and_health_of_a_board_say_it_once_and_as_long_as_it_holds(
    gateway: RunningGateway, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol(tmp_path, gateway.url, create_token(gateway.root, client_id="board", auto_approve=True))

    def healthz() -> tuple[int, bytes]:
        return health(lambda: {"processes": {}, "server_trouble": kept_standing(tmp_path).trouble})

    another_release(monkeypatch, "9.9")
    looked = StandingWatch(tmp_path)
    with caplog.at_level(logging.INFO):
        for number in range(3):
            looked.step(number * SERVER_ASKED_EVERY_S)
        said = f"board: holds Stonecrop 9.9, its server {__version__};"
        assert [said in record.message for record in caplog.records] == [True]
        code, words = healthz()
        assert code == 503
        assert said in words.decode()
        monkeypatch.setattr(standing, "standing_of", away)
        looked.step(3 * SERVER_ASKED_EVERY_S)
        assert healthz()[0] == 503
        monkeypatch.setattr(standing, "standing_of", lambda _: Standing())
        looked.step(4 * SERVER_ASKED_EVERY_S)
    assert healthz() == (200, b"ok\n")
    assert caplog.records[-1].message == "the server lets this device take part"


def away(root: Path) -> Standing:
    raise ServerAwayError("no network")
