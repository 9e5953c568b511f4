"""A board that runs for months: a full disk ends it no more than a new identity or a server that has moved."""

from __future__ import annotations

import json
import logging
import socket

import pytest

from fl_client.node import upkeep
from fl_client.node.upkeep import DeviceCertificateRenewal, SecondBoard, StaleProcesses, second_board
from fl_core.errors import IdentityError, ServerAwayError


def enrolled(root, folder="one"):
    record = {"client_id": "board-7", "host": "fleet.example.org", "port": 8443, "folder": folder}
    (root / "keys").mkdir(exist_ok=True)
    (root / "keys" / "identity.json").write_text(json.dumps(record))


@pytest.fixture
def names(monkeypatch):
    """What the server's name stands for now; an empty list is a name that nobody can look up."""
    addresses: list[str] = []

    def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        if not addresses:
            raise socket.gaierror("Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return addresses


def test_the_forwarder_starts_anew_when_no_address_of_the_server_holds_any_more(tmp_path, names):
    enrolled(tmp_path)
    names[:] = ["192.0.2.1", "192.0.2.2"]
    stale = StaleProcesses(tmp_path)
    assert stale.look() == ()
    names[:] = ["192.0.2.2", "192.0.2.3"]
    assert stale.look() == ()
    names[:] = ["192.0.2.3"]
    assert stale.look() == ("forwarder",)
    assert stale.look() == ()


def test_a_name_that_cannot_be_looked_up_changes_nothing(tmp_path, names):
    enrolled(tmp_path)
    stale = StaleProcesses(tmp_path)
    assert stale.look() == ()
    names[:] = ["192.0.2.1"]
    assert stale.look() == ()
    names.clear()
    assert stale.look() == ()
    names[:] = ["192.0.2.1"]
    assert stale.look() == ()
    names[:] = ["192.0.2.9"]
    assert stale.look() == ("forwarder",)


def test_another_identity_starts_both_parts_anew_even_without_a_network(tmp_path, names):
    enrolled(tmp_path)
    stale = StaleProcesses(tmp_path)
    assert stale.look() == ()
    (tmp_path / "keys" / "identity.json").unlink()
    assert stale.look() == ()
    enrolled(tmp_path, "two")
    assert stale.look() == ("supernode", "forwarder")
    assert stale.look() == ()


def test_a_renewal_that_a_full_disk_prevents_is_said_once_and_tried_again(tmp_path, monkeypatch, caplog):
    full = OSError(28, "No space left on device")
    outcomes = [full, full, ServerAwayError("fleet.example.org: busy"), True, full]

    def renew(root):
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(upkeep, "renew_if_due", renew)
    caplog.set_level(logging.INFO)
    renewal = DeviceCertificateRenewal(tmp_path)
    for hour in range(5):
        renewal.step(3600.0 * hour)
    assert outcomes == []
    full_disk = "the certificate cannot be renewed now: [Errno 28] No space left on device"
    away = "the certificate cannot be renewed now: fleet.example.org: busy"
    assert caplog.messages == [full_disk, away, "the certificate was renewed", full_disk]


def test_a_second_board_with_this_identity_is_said_once_and_kept_until_the_server_says_it_is_over(
    tmp_path, monkeypatch, caplog
):
    words = "two devices use the identity board-7: expected one"
    answers = [None, words, words, ServerAwayError("no"), IdentityError("revoked"), words, None]
    kept = []

    def ask(root):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer, False

    monkeypatch.setattr(upkeep, "ask_twice", ask)
    second = SecondBoard(tmp_path, tmp_path)
    for minute in range(7):
        second.step(60.0 * minute)
        kept.append(second_board(tmp_path))
    assert kept == [None, words, words, words, words, words, None]
    assert caplog.messages == [words]
