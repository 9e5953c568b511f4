"""Who a board is: its keys, made on the board, and the short certificate that the server gives it for a token.

``enrol`` trusts nothing but the fingerprint in the token; keys never leave the board. Each enrolment has a folder of
its own and becomes the board's identity by one atomic write, so a crash or a lost answer leaves the old identity or
none, and the same token can be tried again. A certificate is renewed in the second half of its life: with the
default of 7 days a board may then be without a network for 72 hours at any moment and still be let in.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from fl_client.node.gateway_call import (
    call,
    check_clock,
    check_skew,
    fetch_open,
    in_words,
    parse_address,
    trusting,
)
from fl_client.node.keys import FileKeyProvider, KeyProvider, node_key_of
from fl_core.errors import IdentityError
from fl_core.files import read_json, write_atomic, write_json
from fl_core.identity import (
    ENROL_PATH,
    RENEW_PATH,
    STATUS_PATH,
    EnrolmentToken,
    UnixTime,
    check_client_id,
    node_key_pem,
    sign_node_proof,
)

RENEW_SHARE = 0.5  # of a certificate's life


@dataclass(frozen=True)
class Identity:
    """An enrolled board: its name, its server, and the folder of its keys and certificates."""

    client_id: str
    host: str
    port: int
    folder: Path

    @property
    def certificate(self) -> Path:
        """The certificate that the server gave, PEM."""
        return self.folder / "device.pem"

    @property
    def ca(self) -> Path:
        """The authority that the server's certificate is checked against, PEM."""
        return self.folder / "ca.pem"

    @property
    def node_key(self) -> Path:
        """Flower's node key in OpenSSH form: ``flower-supernode --auth-supernode-private-key``."""
        return self.folder / "node.key"

    @property
    def loopback_certificate(self) -> Path:
        """What the SuperNode checks the board's own forwarder against, PEM; there once a forwarder was set up."""
        return self.folder / "loopback.pem"

    @property
    def keys(self) -> KeyProvider:
        """The key of the certificate."""
        return FileKeyProvider(self.folder / "tls.key")


def enrol(root: Path, url: str, token: str, clock: UnixTime = time.time) -> tuple[Identity, str]:
    """Enrol this board at ``url`` (https://HOST:PORT); gives the identity and its status, approved or pending.

    The status pending means: the certificate is there, and opens the door as soon as an operator approves.

    Raises:
        IdentityError: a wrong token, address or clock, or the server refused; the message says which.
        ServerAwayError: the server cannot be reached; the same token may be tried again.
    """
    parsed = EnrolmentToken.parse(token)
    host, port = parse_address(url)
    ca = _fetch_ca(host, port, parsed.ca_fingerprint, clock)
    folder = root / "keys" / hashlib.sha256(parsed.secret).hexdigest()[:16]
    identity = Identity("", host, port, folder)
    node_key = node_key_of(identity.node_key)
    csr = identity.keys.request()
    answer = call(
        (host, port),
        "POST",
        ENROL_PATH,
        {
            "token": parsed.text(),
            "csr": csr.decode(),
            "node_key": node_key_pem(node_key.public_key()).decode(),
            "node_proof": base64.b64encode(sign_node_proof(node_key, csr)).decode(),
        },
        trusting(ca),
        clock,
    )
    write_atomic(identity.ca, ca)
    _store_certificate(identity, answer)
    identity = Identity(check_client_id(str(answer.get("client_id"))), host, port, folder)
    record = {"client_id": identity.client_id, "host": host, "port": port, "folder": folder.name}
    write_json(_record(root), record)
    for other in folder.parent.iterdir():
        if other.is_dir() and other != folder:
            shutil.rmtree(other)
    return identity, str(answer.get("status"))


def load_identity(root: Path) -> Identity:
    """The identity that ``enrol`` stored under ``root``.

    Raises:
        IdentityError: there is none, or its record is damaged.
    """
    path = _record(root)
    try:
        record = read_json(path)
        if record is None:
            raise IdentityError(f"{root}: this board is not enrolled; do it with: fl-client enrol URL TOKEN")
        folder = path.parent / str(record["folder"])
        return Identity(str(record["client_id"]), str(record["host"]), int(record["port"]), folder)
    except (ValueError, KeyError, TypeError) as error:
        raise IdentityError(f"{path}: expected an identity, got a damaged file ({error}); enrol anew") from None


def renew_if_due(root: Path, clock: UnixTime = time.time) -> bool:
    """Renew the certificate if less than ``RENEW_SHARE`` of its life remains; says whether it did.

    Raises:
        IdentityError: the certificate has ended, the clock is wrong, or the server refused.
        ServerAwayError: the server cannot be reached; try again later.
    """
    identity = load_identity(root)
    certificate = x509.load_pem_x509_certificate(identity.certificate.read_bytes())
    begins_s, ends_s = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    check_in_time(identity, clock)
    if ends_s - clock() > RENEW_SHARE * (ends_s - begins_s):
        return False
    request = {"csr": identity.keys.request().decode()}
    _store_certificate(
        identity, call((identity.host, identity.port), "POST", RENEW_PATH, request, _own_context(identity), clock)
    )
    return True


def check_in_time(identity: Identity, clock: UnixTime = time.time) -> None:
    """Look whether a board's certificate holds now.

    Raises:
        IdentityError: it has ended, or the clock is wrong.
        ServerAwayError: the server, whose clock would tell which, cannot be reached.
    """
    certificate = x509.load_pem_x509_certificate(identity.certificate.read_bytes())
    ends_s = certificate.not_valid_after_utc.timestamp()
    if not certificate.not_valid_before_utc.timestamp() <= clock() <= ends_s:
        check_clock(identity.host, identity.port, clock)
        raise IdentityError(f"certificate of {identity.client_id}: it ended at {in_words(ends_s)}; ask for a new token")


def ask_server(root: Path, instance: str = "", clock: UnixTime = time.time) -> dict[str, Any]:
    """What the server says of this board: its ``status``, approved or pending, and the ``release`` that it holds; where
    two boards use this identity, ``twice`` in words, and ``refused`` where it is the board that began as ``instance``.

    Raises:
        IdentityError: revoked or expired, with the server's words, or the clock is wrong.
        ServerAwayError: the server cannot be reached.
    """
    identity = load_identity(root)
    return call((identity.host, identity.port), "GET", STATUS_PATH, None, _own_context(identity), clock, instance)


def clock_error_s(host: str, port: int, clock: UnixTime = time.time) -> float:
    """By how many seconds this board's clock is ahead of the server's (below 0: behind), from its Date header.

    The header is read without checking the server's certificate, which a wrong clock would fail: it is a hint for a
    person and decides nothing.

    Raises:
        ServerAwayError: the server cannot be reached.
    """
    return clock() - fetch_open(host, port)[1]


def _fetch_ca(host: str, port: int, fingerprint: bytes, clock: UnixTime) -> bytes:
    """The authority's certificate, which is right if its fingerprint is the token's."""
    pem, server_s = fetch_open(host, port)
    try:
        seen = x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256())
    except ValueError:
        seen = b""
    if seen != fingerprint:
        raise IdentityError(
            f"{host}:{port}: expected the authority {fingerprint.hex()[:16]} that the token names, got "
            f"{seen.hex()[:16] or 'none'}: the wrong server, or somebody between you and it"
        )
    check_skew(clock(), server_s)
    return pem


def _store_certificate(identity: Identity, answer: dict[str, Any]) -> None:
    """Keep a certificate that the server sent, if it is for this board's key."""
    pem = str(answer.get("certificate", "")).encode()
    try:
        theirs = x509.load_pem_x509_certificate(pem).public_key()
        ours = x509.load_pem_x509_csr(identity.keys.request()).public_key()
    except ValueError:
        raise IdentityError(f"{identity.host}: expected a certificate, got something else") from None
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if theirs.public_bytes(*form) != ours.public_bytes(*form):
        raise IdentityError(f"{identity.host}: expected a certificate for this board's key, got one for another")
    write_atomic(identity.certificate, pem)


def _own_context(identity: Identity) -> ssl.SSLContext:
    context = trusting(identity.ca.read_bytes())
    identity.keys.show(context, identity.certificate)
    return context


def _record(root: Path) -> Path:
    return root / "keys" / "identity.json"
