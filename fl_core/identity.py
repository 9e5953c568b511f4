"""What a board and the gateway must agree on to enrol: the token's text, the paths, the proof of the node key.

A token is one line that a person copies: the one-time secret and the SHA-256 of the certificate authority, so that a
board knows whom it talks to before it has any certificate. The node key is the one that Flower's SuperNode signs
with; a board proves that it holds it, so that nobody can enrol with the key of another.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fl_core.client_id import client_id_problem
from fl_core.errors import IdentityError

CA_PATH = "/v1/ca"
ENROL_PATH = "/v1/enrol"
RENEW_PATH = "/v1/renew"
STATUS_PATH = "/v1/me"
FLEET_PATH = "/v1/fleet/"
"""What Flower's SuperNode asks of a SuperLink begins with this; Flower has chosen it."""

RELEASE_HEADER = "x-stonecrop-release"
"""Names the release that a board holds, in each of its calls to the gateway."""
INSTANCE_HEADER = "x-board-instance"
"""Names the processes of a board as they run now, in each of their requests; a copy of the board has another word."""

UnixTime = Callable[[], float]
"""Gives the time in Unix seconds, by which certificates and tokens hold; tests pass another one than the machine's."""

_VERSION = "stonecrop1"
_SECRET_BYTES = 32
_PROOF_CONTEXT = b"stonecrop node key of "


@dataclass(frozen=True)
class EnrolmentToken:
    """A one-time secret (32 bytes) and the SHA-256 fingerprint of the authority's certificate (32 bytes)."""

    secret: bytes
    ca_fingerprint: bytes

    def text(self) -> str:
        """The token as one line, which a person copies to the board."""
        return ".".join((_VERSION, _encode(self.secret), _encode(self.ca_fingerprint)))

    @staticmethod
    def parse(text: str) -> EnrolmentToken:
        """The token of a line that ``text`` has made and a person has copied.

        Raises:
            IdentityError: it is not a whole token.
        """
        parts = text.strip().split(".")
        try:
            if len(parts) != 3 or parts[0] != _VERSION:
                raise ValueError
            secret, fingerprint = _decode(parts[1]), _decode(parts[2])
            if len(secret) != _SECRET_BYTES or len(fingerprint) != hashlib.sha256().digest_size:
                raise ValueError
        except ValueError:
            raise IdentityError(
                f"enrolment token: expected {_VERSION}.SECRET.FINGERPRINT, as 'fl-server token create' prints it; "
                f"got {len(text.strip())} characters in {len(parts)} parts"
            ) from None
        return EnrolmentToken(secret, fingerprint)


def check_client_id(client_id: str) -> str:
    """Give ``client_id`` back, if a client may be called so.

    Raises:
        IdentityError: it cannot.
    """
    if problem := client_id_problem(client_id):
        raise IdentityError(f"client_id: {problem}")
    return client_id


def other_release(server: str, device: str) -> str | None:
    """Why a device that holds another release than its server takes no part, for people of both; None if it can."""
    if server == device:
        return None
    return f"holds Stonecrop {device}, its server {server}; install the same release on both"


def twice_in_words(client_id: str) -> str:
    """What a server tells both boards that use one identity, and its operator."""
    return (
        f"two devices use the identity {client_id}: expected one, got a copy of its keys, and the one that began "
        f"later is refused; enrol the one that is to be {client_id} anew, and the other under a name of its own"
    )


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as its file holds it: PKCS8 in PEM, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def node_key_pem(public_key: ec.EllipticCurvePublicKey) -> bytes:
    """A node key as Flower sends it: SubjectPublicKeyInfo in PEM."""
    return public_key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def sign_node_proof(node_key: ec.EllipticCurvePrivateKey, csr: bytes) -> bytes:
    """Signature of the node key over one certificate request (PEM)."""
    return node_key.sign(_proof_message(csr), ec.ECDSA(hashes.SHA256()))


def checked_node_key(pem: bytes, proof: bytes, csr: bytes) -> bytes:
    """The node key in its one canonical PEM form, after its proof was checked.

    Raises:
        IdentityError: not an EC P-384 public key, or ``proof`` was not made with it over ``csr``.
    """
    try:
        key = serialization.load_pem_public_key(pem)
    except ValueError:
        raise IdentityError("node public key: expected PEM, got something else") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise IdentityError("node public key: expected EC P-384, got another kind")
    try:
        key.verify(proof, _proof_message(csr), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise IdentityError("node public key: the proof was not made with its private key") from None
    return node_key_pem(key)


def _proof_message(csr: bytes) -> bytes:
    return _PROOF_CONTEXT + hashlib.sha256(csr).digest()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
