"""The registry's rule of admission, tokens and enrolments, without a network. Times are Unix seconds."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_client.node.keys import node_key_of
from fl_core.errors import IdentityError
from fl_core.identity import EnrolmentToken, checked_node_key, node_key_pem, sign_node_proof
from fl_server.gateway.authority import IssuedCertificate
from fl_server.gateway.devices import DeviceRegistry

NOW = 1_000_000.0
WEEK_S = 7 * 86400.0


@pytest.fixture
def registry(tmp_path: Path) -> DeviceRegistry:
    return DeviceRegistry(tmp_path / "devices.sqlite")


def put_in(registry: DeviceRegistry, name: str, *, approved: bool = True, node_key: str | None = None) -> None:
    """A device with certificate ``cert-NAME`` and node key ``key-NAME``."""
    secret = os.urandom(32)
    registry.add_token(secret, NOW + 100, name, approved)
    registry.use_token(secret, f"tls-{name}", node_key or f"key-{name}", NOW)
    registry.add_certificate(name, IssuedCertificate(b"", f"cert-{name}", "1", NOW + WEEK_S), NOW)


def test_an_approved_device_with_its_own_key_and_time_is_let_in(registry: DeviceRegistry) -> None:
    put_in(registry, "a")
    assert registry.refusal("cert-a", "key-a", NOW + 1) is None
    assert registry.device("a").last_seen_s == NOW + 1


@pytest.mark.parametrize(
    ("certificate", "node_key", "at_s", "words"),
    [
        ("cert-x", "key-a", NOW, "not one of an enrolled device"),
        ("cert-a", "key-a", NOW + WEEK_S + 1, "has expired"),
        ("cert-a", "key-b", NOW, "does not belong to this certificate"),
        ("cert-a", None, NOW, "node key is missing"),
        ("cert-c", "key-c", NOW, "waits for the operator"),
        ("cert-d", "key-d", NOW, "revoked"),
    ],
)
def test_everybody_else_is_refused_with_the_reason(
    registry: DeviceRegistry, certificate: str, node_key: str | None, at_s: float, words: str
) -> None:
    for name in "abd":
        put_in(registry, name)
    put_in(registry, "c", approved=False)
    registry.revoke("d")
    assert words in str(registry.refusal(certificate, node_key, at_s))


def test_a_revocation_is_seen_by_a_process_that_has_the_registry_open(tmp_path: Path) -> None:
    path = tmp_path / "devices.sqlite"
    with DeviceRegistry(path) as service, DeviceRegistry(path) as operator:
        put_in(service, "a")
        assert service.refusal("cert-a", "key-a", NOW) is None
        operator.revoke("a")
        assert service.refusal("cert-a", "key-a", NOW) == "this device is revoked"


def test_a_revoked_device_neither_renews_nor_is_approved_and_its_unused_tokens_go(registry: DeviceRegistry) -> None:
    put_in(registry, "a")
    registry.add_token(b"spare", NOW + 100, "a", True)
    registry.revoke("a")
    with pytest.raises(IdentityError, match="revoked"):
        registry.owner_of("cert-a", NOW)
    with pytest.raises(IdentityError, match="create a token with its name"):
        registry.approve("a")
    with pytest.raises(IdentityError, match="unknown to this server"):
        registry.use_token(b"spare", "tls", "key-new", NOW)


def test_a_node_key_is_never_taken_twice(registry: DeviceRegistry) -> None:
    put_in(registry, "a")
    with pytest.raises(IdentityError, match="in use or was used up"):
        put_in(registry, "b", node_key="key-a")
    registry.revoke("a")
    with pytest.raises(IdentityError, match="in use or was used up"):  # not for its own owner either
        put_in(registry, "a", node_key="key-a")
    assert [device.client_id for device in registry.devices()] == ["a"]


def test_a_new_enrolment_retires_the_old_key_and_certificate(registry: DeviceRegistry) -> None:
    put_in(registry, "a")
    registry.add_token(b"again", NOW + 100, "a", True)
    registry.use_token(b"again", "tls-2", "key-a2", NOW + 1)
    assert registry.refusal("cert-a", "key-a", NOW + 1) == "this certificate is not one of an enrolled device"
    assert registry.retired_node_keys() == [("a", "key-a")]
    assert registry.device("a").node_key == "key-a2"


def test_one_token_makes_one_device_however_many_use_it_at_once(registry: DeviceRegistry) -> None:
    registry.add_token(b"one", NOW + 100, None, True)
    outcomes: list[str] = []

    def use(number: int) -> None:
        try:
            registry.use_token(b"one", f"tls-{number}", f"key-{number}", NOW)
            outcomes.append("in")
        except IdentityError:
            outcomes.append("out")

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["in"] + ["out"] * 7
    assert len(registry.devices()) == 1


def test_a_lost_answer_may_be_asked_for_again_by_the_same_device_for_a_while(registry: DeviceRegistry) -> None:
    registry.add_token(b"one", NOW + 100, None, True)
    first = registry.use_token(b"one", "tls", "key", NOW)
    assert registry.use_token(b"one", "tls", "key", NOW + 200) == first
    with pytest.raises(IdentityError, match="already used"):
        registry.use_token(b"one", "tls", "key", NOW + 3600)
    registry.revoke(first.client_id)
    with pytest.raises(IdentityError, match="already used"):
        registry.use_token(b"one", "tls", "key", NOW + 201)


def test_a_secret_is_not_in_the_file(tmp_path: Path) -> None:
    with DeviceRegistry(tmp_path / "devices.sqlite") as registry:
        registry.add_token(b"a very secret secret of 32 bytes", NOW, None, True)
    assert all(b"a very secret" not in path.read_bytes() for path in tmp_path.iterdir())


@given(secret=st.binary(min_size=32, max_size=32), fingerprint=st.binary(min_size=32, max_size=32))
def test_a_token_survives_being_copied(secret: bytes, fingerprint: bytes) -> None:
    token = EnrolmentToken(secret, fingerprint)
    assert EnrolmentToken.parse(f"  {token.text()}\n") == token
    with pytest.raises(IdentityError, match="expected stonecrop1"):
        EnrolmentToken.parse(token.text()[:-4])


@given(st.text(max_size=200))
def test_whatever_is_no_token_is_refused_in_words(text: str) -> None:
    with pytest.raises(IdentityError, match="enrolment token"):
        EnrolmentToken.parse(text)


def test_a_node_key_counts_only_with_its_proof_for_this_request(tmp_path: Path) -> None:
    key, other = node_key_of(tmp_path / "one"), node_key_of(tmp_path / "two")
    pem = node_key_pem(key.public_key())
    assert checked_node_key(pem, sign_node_proof(key, b"request"), b"request") == pem
    for proof in (sign_node_proof(other, b"request"), sign_node_proof(key, b"another"), b""):
        with pytest.raises(IdentityError, match="proof was not made with its private key"):
            checked_node_key(pem, proof, b"request")
