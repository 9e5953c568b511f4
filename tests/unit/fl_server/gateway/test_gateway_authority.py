"""The authority certifies a key for a name and nothing more, keeps its keys to itself, and survives a stop."""

from __future__ import annotations

import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fl_client.node.keys import FileKeyProvider, make_loopback_certificate
from fl_core.errors import IdentityError
from fl_server.gateway.authority import Authority, init_authority, renew_server_certificate
from fl_server.gateway.layout import GatewayFiles
from fl_server.gateway.nginx import GatewaySettings, write_nginx_conf

NOW = datetime(2026, 5, 1, tzinfo=timezone.utc)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return init_authority(tmp_path / "server", ["fleet.example", "10.0.0.7"], NOW)


def test_a_device_gets_its_name_a_short_life_and_the_right_to_be_a_client_only(
    authority: Authority, tmp_path: Path
) -> None:
    issued = authority.sign_device(FileKeyProvider(tmp_path / "key").request(), "jetson-1", NOW)
    certificate = x509.load_pem_x509_certificate(issued.pem)
    certificate.verify_directly_issued_by(authority.certificate)
    assert certificate.subject.rfc4514_string() == "CN=jetson-1"
    assert certificate.not_valid_after_utc == NOW + timedelta(days=7)
    assert issued.not_after_s == certificate.not_valid_after_utc.timestamp()
    assert issued.fingerprint == certificate.fingerprint(hashes.SHA256()).hex()
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_what_a_request_asks_for_besides_its_key_is_ignored(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody else")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=3), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    certificate = x509.load_pem_x509_certificate(authority.sign_device(greedy, "pi-1", NOW).pem)
    assert certificate.subject.rfc4514_string() == "CN=pi-1"
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def rsa_request() -> bytes:
    key = rsa.generate_private_key(65537, 2048)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def broken_request() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    der = bytearray(request.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1  # in the signature
    return ssl.DER_cert_to_PEM_cert(bytes(der)).replace("CERTIFICATE", "CERTIFICATE REQUEST").encode()


@pytest.mark.parametrize(
    ("request_pem", "words"),
    [(b"none", "expected PEM"), (rsa_request(), "EC P-256"), (broken_request(), "signature does not hold")],
    ids=["garbage", "RSA", "broken signature"],
)
def test_a_bad_request_is_refused(authority: Authority, request_pem: bytes, words: str) -> None:
    with pytest.raises(IdentityError, match=words):
        authority.sign_device(request_pem, "pi-1", NOW)


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", "x" * 64, "é", "a\nb"])
def test_a_name_that_cannot_stand_in_a_certificate_is_refused(authority: Authority, tmp_path: Path, name: str) -> None:
    with pytest.raises(IdentityError, match="expected 1 to 63 letters"):
        authority.sign_device(FileKeyProvider(tmp_path / "key").request(), name, NOW)


def test_the_server_is_certified_for_its_names_and_for_loopback(authority: Authority, tmp_path: Path) -> None:
    files = GatewayFiles(tmp_path / "server")
    server, ca = x509.load_pem_x509_certificates(files.server_certificate.read_bytes())
    assert ca == authority.certificate
    server.verify_directly_issued_by(ca)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["localhost", "127.0.0.1", "::1", "fleet.example", "10.0.0.7"]


def test_a_second_start_keeps_the_authority_and_renews_the_server_in_its_last_third(tmp_path: Path) -> None:
    first = init_authority(tmp_path, ["fleet.example"], NOW)
    files = GatewayFiles(tmp_path)
    served, key = files.server_certificate.read_bytes(), files.server_key.read_bytes()
    assert init_authority(tmp_path, ["other"], NOW).fingerprint == first.fingerprint
    assert not renew_server_certificate(tmp_path, "fleet.example", NOW + timedelta(days=200))
    assert files.server_certificate.read_bytes() == served
    assert renew_server_certificate(tmp_path, "fleet.example", NOW + timedelta(days=250))
    renewed = x509.load_pem_x509_certificates(files.server_certificate.read_bytes())[0]
    assert renewed.not_valid_after_utc == NOW + timedelta(days=250 + 365)
    names = renewed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "fleet.example" in [str(name.value) for name in names]
    assert files.server_key.read_bytes() == key


def test_a_server_whose_host_was_edited_is_certified_for_it_and_for_the_old_one(tmp_path: Path) -> None:
    init_authority(tmp_path, ["fleet.example", "10.0.0.7"], NOW)
    assert not renew_server_certificate(tmp_path, "10.0.0.7", NOW)
    assert renew_server_certificate(tmp_path, "fd00:0::7", NOW)
    assert not renew_server_certificate(tmp_path, "fd00::7", NOW)
    server, ca = x509.load_pem_x509_certificates(GatewayFiles(tmp_path).server_certificate.read_bytes())
    server.verify_directly_issued_by(ca)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names][3:] == ["fleet.example", "10.0.0.7", "fd00::7"]


def test_secrets_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    init_authority(tmp_path / "server", [], NOW)
    files = GatewayFiles(tmp_path / "server")
    write_nginx_conf(files.root, GatewaySettings(8443, 8444, "http://127.0.0.1:8000"))
    FileKeyProvider(tmp_path / "tls.key").request()
    make_loopback_certificate(tmp_path / "loopback.pem", tmp_path / "loopback.key")
    secret = [files.ca_key, files.server_key, files.secret, files.nginx_conf]
    for path in [*secret, tmp_path / "tls.key", tmp_path / "loopback.key"]:
        assert path.stat().st_mode & 0o777 == 0o600, path


def test_a_key_that_is_not_the_authoritys_is_noticed(tmp_path: Path) -> None:
    init_authority(tmp_path / "one", [], NOW)
    init_authority(tmp_path / "two", [], NOW)
    files = GatewayFiles(tmp_path / "one")
    files.ca_key.write_bytes(GatewayFiles(tmp_path / "two").ca_key.read_bytes())
    with pytest.raises(IdentityError, match="expected the key of"):
        Authority(files)


def test_a_folder_whose_name_nginx_would_misread_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "a $b; c"
    init_authority(root, [], NOW)
    with pytest.raises(IdentityError, match="without spaces"):
        write_nginx_conf(root, GatewaySettings(8443, 8444, "http://127.0.0.1:8000"))
