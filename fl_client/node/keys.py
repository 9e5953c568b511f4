"""Where a board's private keys live: behind a small seam, in files today.

A provider makes the key at its first use and never gives it out: it signs certificate requests, shows itself in a TLS
connection, and names itself to nginx. A provider for a security chip answers the same four questions. Root of the
board can read files, so nothing here proves which hardware a key is on.
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fl_core.errors import IdentityError
from fl_core.files import write_atomic, write_secret
from fl_core.identity import private_pem


class KeyProvider(Protocol):
    """The private key (EC P-256) of a board's certificate."""

    @property
    def nginx_name(self) -> str:
        """What nginx's ``proxy_ssl_certificate_key`` is set to."""

    @property
    def owner_uid(self) -> int:
        """The user who may use the key."""

    def request(self) -> bytes:
        """A certificate request in PEM; the key is made if there is none."""

    def show(self, context: ssl.SSLContext, certificate: Path) -> None:
        """Let ``context`` prove the identity of ``certificate``."""


class FileKeyProvider:
    """A key in a file that its owner alone can read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def nginx_name(self) -> str:
        """The path of the file."""
        return str(self._path)

    @property
    def owner_uid(self) -> int:
        """Owner of the file."""
        return self._path.stat().st_uid

    def request(self) -> bytes:
        """A certificate request in PEM; its name is left to the server.

        Raises:
            IdentityError: the file holds something else.
        """
        if not self._path.exists():
            write_secret(self._path, private_pem(ec.generate_private_key(ec.SECP256R1())))
        try:
            loaded = serialization.load_pem_private_key(self._path.read_bytes(), password=None)
        except (OSError, ValueError) as error:
            raise IdentityError(f"{self._path}: expected a private key, got {error}") from None
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise IdentityError(f"{self._path}: expected an EC key, got {type(loaded).__name__}")
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(loaded, hashes.SHA256())
        return request.public_bytes(serialization.Encoding.PEM)

    def show(self, context: ssl.SSLContext, certificate: Path) -> None:
        """Let ``context`` prove the identity of ``certificate``.

        Raises:
            IdentityError: certificate and key are missing or do not fit together.
        """
        try:
            context.load_cert_chain(certificate, self._path)
        except OSError as error:
            raise IdentityError(f"{certificate}: expected the certificate of {self._path}, got {error}") from None


def node_key_of(path: Path) -> ec.EllipticCurvePrivateKey:
    """Flower's node key (EC P-384) in OpenSSH form at ``path``; made if there is none.

    Raises:
        IdentityError: the file holds something else.
    """
    if not path.exists():
        new = ec.generate_private_key(ec.SECP384R1())
        write_secret(
            path,
            new.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
            ),
        )
    try:
        key = serialization.load_ssh_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise IdentityError(f"{path}: expected a node key, got {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise IdentityError(f"{path}: expected an EC key, got {type(key).__name__}")
    return key


def make_loopback_certificate(certificate: Path, key: Path) -> None:
    """A self-signed certificate for 127.0.0.1, which only programs of this board trust; what exists stays.

    Flower's SuperNode signs with its key over TLS alone, on loopback too. The certificate holds from
    1970 to 2100, so that a board whose clock stands wrong says so where it matters: at the gateway.
    """
    if certificate.exists() and key.exists():
        return
    secret = ec.generate_private_key(ec.SECP256R1())
    public = secret.public_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stonecrop loopback")])
    addresses = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    utc = datetime.timezone.utc
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=False, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(1970, 1, 2, tzinfo=utc))
        .not_valid_after(datetime.datetime(2100, 1, 1, tzinfo=utc))
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(secret, hashes.SHA256())
    )
    write_secret(key, private_pem(secret))
    write_atomic(certificate, signed.public_bytes(serialization.Encoding.PEM))
