"""The certificate authority of a fleet: its own key (EC P-256), the server's certificate, short ones for devices.

A device's certificate carries nothing but its client id and the right to be a TLS client; what the request asks for
besides its public key is ignored. Certificates start an hour early, so that a clock that is a little behind does
not refuse them. No function overwrites an authority that exists.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fl_core.errors import IdentityError
from fl_core.files import write_atomic, write_secret
from fl_core.identity import check_client_id, private_pem
from fl_server.gateway.layout import GatewayFiles

DEVICE_DAYS = 7.0
CA_DAYS = 3650.0
SERVER_DAYS = 365.0
_EARLY = datetime.timedelta(hours=1)
_RENEW_SHARE = 1 / 3  # of a server certificate's life
_ALWAYS = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class IssuedCertificate:
    """A device's certificate: PEM, SHA-256 fingerprint and serial in hex, and when it ends (Unix time, seconds)."""

    pem: bytes
    fingerprint: str
    serial: str
    not_after_s: float


class Authority:
    """An authority that was read from its files.

    Raises:
        IdentityError: a file is missing or no certificate authority.
    """

    def __init__(self, files: GatewayFiles) -> None:
        try:
            key = serialization.load_pem_private_key(files.ca_key.read_bytes(), password=None)
            self.certificate = x509.load_pem_x509_certificate(files.ca_certificate.read_bytes())
        except (OSError, ValueError) as error:
            raise IdentityError(f"{files.root}: expected a certificate authority in ca/, got {error}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != self.certificate.public_key():
            raise IdentityError(f"{files.ca_key}: expected the key of {files.ca_certificate}, got another")
        self._key = key

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the authority's certificate (DER), 32 bytes."""
        return self.certificate.fingerprint(hashes.SHA256())

    @property
    def pem(self) -> bytes:
        """The authority's certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def sign_device(
        self, csr: bytes, client_id: str, now: datetime.datetime, days: float = DEVICE_DAYS
    ) -> IssuedCertificate:
        """Certify the public key of a request (PEM) for ``client_id``.

        Raises:
            IdentityError: the request is malformed, unsigned, not EC P-256, or the name cannot stand in it.
        """
        key = requested_key(csr)
        builder = self._leaf(check_client_id(client_id), key, now, days)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
        certificate = builder.sign(self._key, hashes.SHA256())
        return IssuedCertificate(
            pem=certificate.public_bytes(serialization.Encoding.PEM),
            fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
            serial=format(certificate.serial_number, "x"),
            not_after_s=certificate.not_valid_after_utc.timestamp(),
        )

    def sign_server(
        self, key: ec.EllipticCurvePublicKey, host_names: Iterable[str], now: datetime.datetime
    ) -> x509.Certificate:
        """A server's certificate for ``host_names`` (DNS names or addresses); loopback is always among them."""
        names = list(dict.fromkeys((*_ALWAYS, *host_names)))
        builder = self._leaf("stonecrop gateway", key, now, SERVER_DAYS)
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False
        )
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _leaf(
        self, name: str, key: ec.EllipticCurvePublicKey, now: datetime.datetime, days: float
    ) -> x509.CertificateBuilder:
        return _builder(name, self.certificate.subject, key, now, days, issuer_key=self._key.public_key())


def init_authority(root: Path, host_names: Iterable[str], now: datetime.datetime) -> Authority:
    """Make authority, server key and server certificate under ``root``; what exists already stays.

    Raises:
        IdentityError: the files that exist do not fit together.
    """
    files = GatewayFiles(root)
    if not files.ca_certificate.exists():
        _make_ca(files, now)
    authority = Authority(files)
    if not files.server_certificate.exists():
        _write_server(files, authority, host_names, now)
    return authority


def renew_server_certificate(root: Path, host: str, now: datetime.datetime) -> bool:
    """Issue the server's certificate anew in the last third of its life, or for a new ``host``; says whether it did.

    The names that it had stay: boards reach the server by the one that they were enrolled with.

    Raises:
        IdentityError: the folder's authority is missing or damaged.
        OSError: a file cannot be read or written.
        ValueError: ``host`` cannot stand in a certificate, or the old one cannot be read.
    """
    files = GatewayFiles(root)
    old = x509.load_pem_x509_certificates(files.server_certificate.read_bytes())[0]
    life = old.not_valid_after_utc - old.not_valid_before_utc
    names = list(old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    if _general_name(host) in names and old.not_valid_after_utc - now > _RENEW_SHARE * life:
        return False
    _write_server(files, Authority(files), [*(str(name.value) for name in names), host], now)
    return True


def requested_key(csr: bytes) -> ec.EllipticCurvePublicKey:
    """The public key of a certificate request whose signature holds.

    Raises:
        IdentityError: it is malformed, its signature does not hold, or the key is not EC P-256.
    """
    try:
        request = x509.load_pem_x509_csr(csr)
        signed = request.is_signature_valid
        key = request.public_key()
    except Exception as error:  # whatever the parser finds wrong with a stranger's bytes
        raise IdentityError(f"certificate request: expected PEM, got {type(error).__name__}") from None
    if not signed:
        raise IdentityError("certificate request: its signature does not hold")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise IdentityError("certificate request: expected an EC P-256 key, got another kind")
    return key


def key_fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    """SHA-256 of a public key (SubjectPublicKeyInfo, DER), in hex."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def _make_ca(files: GatewayFiles, now: datetime.datetime) -> None:
    """A new authority; the certificate is written last, so that a crash before it starts anew."""
    key = ec.generate_private_key(ec.SECP256R1())
    # The name says when and where it was made: two fleets' authorities are told apart by a person.
    common_name = f"stonecrop authority {now:%Y-%m-%d} {socket.gethostname()}"[:64]
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    certificate = (
        _builder(common_name, name, key.public_key(), now, CA_DAYS, issuer_key=key.public_key(), ca=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    files.ca_key.parent.mkdir(parents=True, exist_ok=True)
    files.ca_key.parent.chmod(0o700)
    write_secret(files.ca_key, private_pem(key))
    write_atomic(files.ca_certificate, certificate)


def _write_server(files: GatewayFiles, authority: Authority, host_names: Iterable[str], now: datetime.datetime) -> None:
    """The server's certificate with the authority's behind it; the key is made once and kept."""
    if files.server_key.exists():
        key = serialization.load_pem_private_key(files.server_key.read_bytes(), password=None)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
        write_secret(files.server_key, private_pem(key))
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    certificate = authority.sign_server(key.public_key(), host_names, now)
    chain = certificate.public_bytes(serialization.Encoding.PEM) + authority.pem
    write_atomic(files.server_certificate, chain)


def _builder(
    common_name: str,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    days: float,
    *,
    issuer_key: ec.EllipticCurvePublicKey,
    ca: bool = False,
) -> x509.CertificateBuilder:
    usage = x509.KeyUsage(
        digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLY)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
