"""What boards ask of the enrolment service, free of HTTP: certificates for tokens, new ones for old, who may pass.

A request carries what a board says, and the fingerprint of the certificate that nginx has verified; whether a device
may pass, ``DeviceRegistry.refusal`` decides, anew for each request.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hmac

import pydantic
from pydantic import Field

from fl_core import __version__
from fl_core.errors import IdentityError
from fl_core.identity import EnrolmentToken, UnixTime, checked_node_key, twice_in_words
from fl_server.gateway.authority import Authority, IssuedCertificate, key_fingerprint, requested_key
from fl_server.gateway.devices import DeviceRegistry
from fl_server.gateway.doubles import Doubles
from fl_server.gateway.releases import Releases


class EnrolRequest(pydantic.BaseModel, extra="forbid"):
    """What a board sends once."""

    token: str = Field(max_length=200)
    csr: str = Field(max_length=4096)
    node_key: str = Field(max_length=1024)
    node_proof: str = Field(max_length=512)  # base64


class RenewRequest(pydantic.BaseModel, extra="forbid"):
    """What an enrolled board sends before its certificate ends."""

    csr: str = Field(max_length=4096)


class EnrolmentService:
    """What boards ask of the enrolment service, free of HTTP. ``days`` is the life of a certificate."""

    def __init__(
        self,
        authority: Authority,
        registry: DeviceRegistry,
        releases: Releases,
        doubles: Doubles,
        clock: UnixTime,
        days: float,
    ) -> None:
        self.authority = authority
        self.registry = registry
        self.releases = releases
        self.doubles = doubles
        self._clock = clock
        self._days = days

    def enrol(self, request: EnrolRequest) -> dict[str, str]:
        """Use a token up and issue the first certificate; it opens nothing until the device is approved.

        Raises:
            IdentityError: something does not hold; the token is used up only if all the rest does.
        """
        token = EnrolmentToken.parse(request.token)
        if not hmac.compare_digest(token.ca_fingerprint, self.authority.fingerprint):
            raise IdentityError("enrolment token: it was made for another server")
        csr = request.csr.encode()
        tls_key = key_fingerprint(requested_key(csr))
        node_key = checked_node_key(request.node_key.encode(), _base64(request.node_proof, "node proof"), csr)
        enrolment = self.registry.use_token(token.secret, tls_key, node_key.decode(), self._clock())
        issued = self._issue(csr, enrolment.client_id)
        status = "approved" if enrolment.approved else "pending"
        return {"client_id": enrolment.client_id, "status": status, **self._certificates(issued)}

    def renew(self, request: RenewRequest, fingerprint: str) -> dict[str, str]:
        """A new certificate for the owner of one that still holds.

        Raises:
            IdentityError: the old one is unknown or has ended, or its device is revoked.
        """
        device = self.registry.owner_of(fingerprint, self._clock())
        issued = self._issue(request.csr.encode(), device.client_id)
        return {"client_id": device.client_id, "status": device.status, **self._certificates(issued)}

    def status(self, fingerprint: str, release: str = "", instance: str = "") -> dict[str, str]:
        """What the server says of the owner of a certificate, who says to hold ``release``; and its own release. Where
        two boards use the identity, ``twice`` in words, and ``refused`` is "second" for the start that is refused for
        that.

        Raises:
            IdentityError: it is unknown or has ended, or its device is revoked.
        """
        device = self.registry.owner_of(fingerprint, self._clock())
        self.releases.note(device.client_id, release)
        said = {"client_id": device.client_id, "status": device.status, "release": __version__}
        if self.doubles.of(device.node_key):
            said["twice"] = twice_in_words(device.client_id)
            if self.doubles.is_refused(device.node_key, instance):
                said["refused"] = "second"
        return said

    def refusal(self, fingerprint: str, node_key_header: str | None, instance: str = "") -> str | None:
        """Why a Fleet request must not pass, or None; ``instance`` is the start of the board that it names."""
        try:
            node_key = None if not node_key_header else _base64(node_key_header, "node key").decode("ascii")
        except (IdentityError, UnicodeDecodeError):
            return "the node key is not base64 of PEM"
        now_s = self._clock()
        reason = self.registry.refusal(fingerprint, node_key, now_s)
        if reason is not None or node_key is None or not self.doubles.is_second(node_key, instance, now_s):
            return reason
        client_id = self.registry.owner_of(fingerprint, now_s).client_id
        self.doubles.note(client_id, node_key, now_s)
        return twice_in_words(client_id)

    def _issue(self, csr: bytes, client_id: str) -> IssuedCertificate:
        now = self._clock()
        at = datetime.datetime.fromtimestamp(now, datetime.timezone.utc)
        issued = self.authority.sign_device(csr, client_id, at, self._days)
        self.registry.add_certificate(client_id, issued, now)
        return issued

    def _certificates(self, issued: IssuedCertificate) -> dict[str, str]:
        return {"certificate": issued.pem.decode(), "ca": self.authority.pem.decode()}


def _base64(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise IdentityError(f"{what}: expected base64, got something else") from None
