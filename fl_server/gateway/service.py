"""The enrolment service behind nginx: enrols boards, renews certificates, and decides about each Fleet request.

It listens on loopback and answers only who shows the secret that nginx was configured with: another process of the
machine could otherwise claim any certificate. nginx has verified that a certificate is the authority's; whether its
device may pass, ``DeviceRegistry.refusal`` decides, anew for each request. Every refusal carries its reason, in the
form in which Flower's SuperNode prints it.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import hmac
import json
import ssl
import sys
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pydantic
import uvicorn
from pydantic import Field
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fl_core.errors import IdentityError
from fl_core.identity import CA_PATH, ENROL_PATH, RENEW_PATH, STATUS_PATH, EnrolmentToken, checked_node_key
from fl_server.gateway.authority import DEVICE_DAYS, Authority, IssuedCertificate, key_fingerprint, requested_key
from fl_server.gateway.devices import DeviceRegistry
from fl_server.gateway.layout import checked_root, service_secret

MAX_REQUEST_BYTES = 32 * 1024
NODE_KEY_HEADER = "flwr-public-key"  # Flower's: base64 of the PEM form
SECRET_HEADER = "x-gateway-secret"
CERTIFICATE_HEADER = "x-client-certificate"
REFUSAL_HEADER = "x-refusal"
HEALTH_PATH = "/healthz"
AUTH_PATH = "/auth"

Clock = Callable[[], float]


class EnrolRequest(pydantic.BaseModel, extra="forbid"):
    """What a board sends once."""

    token: str = Field(max_length=200)
    csr: str = Field(max_length=4096)
    node_key: str = Field(max_length=1024)
    node_proof: str = Field(max_length=512)  # base64


class RenewRequest(pydantic.BaseModel, extra="forbid"):
    """What an enrolled board sends before its certificate ends."""

    csr: str = Field(max_length=4096)


class EnrolmentDesk:
    """The requests of boards, free of HTTP. ``clock`` gives Unix seconds."""

    def __init__(self, authority: Authority, registry: DeviceRegistry, clock: Clock, days: float) -> None:
        self.authority = authority
        self.registry = registry
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

    def status(self, fingerprint: str) -> dict[str, str]:
        """What the server says of the owner of a certificate.

        Raises:
            IdentityError: it is unknown or has ended, or its device is revoked.
        """
        device = self.registry.owner_of(fingerprint, self._clock())
        return {"client_id": device.client_id, "status": device.status}

    def refusal(self, fingerprint: str, node_key_header: str | None) -> str | None:
        """Why a Fleet request must not pass, or None."""
        try:
            node_key = None if not node_key_header else _base64(node_key_header, "node key").decode("ascii")
        except (IdentityError, UnicodeDecodeError):
            return "the node key is not base64 of PEM"
        return self.registry.refusal(fingerprint, node_key, self._clock())

    def _issue(self, csr: bytes, client_id: str) -> IssuedCertificate:
        now = self._clock()
        at = datetime.datetime.fromtimestamp(now, datetime.timezone.utc)
        issued = self.authority.sign_device(csr, client_id, at, self._days)
        self.registry.add_certificate(client_id, issued, now)
        return issued

    def _certificates(self, issued: IssuedCertificate) -> dict[str, str]:
        return {"certificate": issued.pem.decode(), "ca": self.authority.pem.decode()}


def gateway_app(root: Path, clock: Clock = time.time, days: float = DEVICE_DAYS) -> ASGIApp:
    """The service of the server's folder ``root``, issuing certificates for ``days``.

    Raises:
        IdentityError: the folder has no authority.
    """
    files = checked_root(root)
    desk = EnrolmentDesk(Authority(files), DeviceRegistry(files.devices), clock, days)

    async def ca(_: Request) -> Response:
        return Response(desk.authority.pem, media_type="application/x-pem-file")

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def auth(request: Request) -> Response:
        fingerprint = _fingerprint(request)
        if fingerprint is None:
            reason: str | None = "a client certificate is needed"
        else:
            reason = await run_in_threadpool(desk.refusal, fingerprint, request.headers.get(NODE_KEY_HEADER))
        return Response(status_code=204) if reason is None else _refused(401, reason)

    async def enrol(request: Request) -> Response:
        return await _answer(lambda body: desk.enrol(EnrolRequest.model_validate_json(body)), request)

    async def renew(request: Request) -> Response:
        fingerprint = _fingerprint(request)
        if fingerprint is None:
            return _refused(401, "a client certificate is needed")
        return await _answer(lambda body: desk.renew(RenewRequest.model_validate_json(body), fingerprint), request)

    async def status(request: Request) -> Response:
        fingerprint = _fingerprint(request)
        if fingerprint is None:
            return _refused(401, "a client certificate is needed")
        return await _answer(lambda _: desk.status(fingerprint), request)

    app = Starlette(
        routes=[
            Route(HEALTH_PATH, health),
            Route(AUTH_PATH, auth),
            Route(CA_PATH, ca),
            Route(ENROL_PATH, enrol, methods=["POST"]),
            Route(RENEW_PATH, renew, methods=["POST"]),
            Route(STATUS_PATH, status),
        ]
    )
    secret = service_secret(files).encode()

    async def behind_nginx(scope: Scope, receive: Receive, send: Send) -> None:
        await (app if _shown_secret(scope, secret) else _SPOKEN_TO_BY_ANOTHER)(scope, receive, send)

    return behind_nginx


def service_command(root: Path, port: int) -> list[str]:
    """The command line that runs the service of ``root`` on loopback ``port``."""
    return [sys.executable, "-m", "fl_server.gateway.service", str(root), str(port)]


def serve(root: Path, port: int) -> None:
    """Run the service of ``root`` on 127.0.0.1:``port`` until it is told to stop."""
    uvicorn.run(
        gateway_app(root), host="127.0.0.1", port=port, log_level="warning", access_log=False, server_header=False,
        limit_concurrency=512, timeout_keep_alive=65, timeout_graceful_shutdown=5,
    )  # fmt: skip


def _shown_secret(scope: Scope, secret: bytes) -> bool:
    """Let nobody but nginx in; the health check is open, and only requests are asked."""
    if scope["type"] != "http" or scope["path"] == HEALTH_PATH:
        return True
    return hmac.compare_digest(dict(scope["headers"]).get(SECRET_HEADER.encode(), b""), secret)


async def _answer(handle: Callable[[bytes], dict[str, str]], request: Request) -> Response:
    """Read a bounded body, handle it off the event loop, and put errors into words."""
    if request.headers.get("content-encoding"):
        return _refused(415, "expected a plain body, got one with a content encoding")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_REQUEST_BYTES:
            return _refused(413, f"expected at most {MAX_REQUEST_BYTES} bytes")
    try:
        return JSONResponse(await run_in_threadpool(handle, bytes(body)))
    except pydantic.ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        return _refused(422, f"request: {'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}")
    except IdentityError as error:
        return _refused(401, str(error))


def _refused(status: int, reason: str) -> Response:
    """A refusal as Flower's clients read it (an integer ``code`` and ``detail``), and as nginx hands it on."""
    # Only words of our own stand in reasons, but a header has to stay one line whatever happens.
    line = reason.encode("ascii", "replace").decode().replace('"', "'").replace("\\", "/").replace("\n", " ")
    return Response(
        json.dumps({"code": status, "detail": line}), status, {REFUSAL_HEADER: line}, media_type="application/json"
    )


def _fingerprint(request: Request) -> str | None:
    """SHA-256 (hex) of the client certificate that nginx verified and passed on."""
    escaped = request.headers.get(CERTIFICATE_HEADER)
    if not escaped:
        return None
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(urllib.parse.unquote(escaped))).hexdigest()


def _base64(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise IdentityError(f"{what}: expected base64, got something else") from None


_SPOKEN_TO_BY_ANOTHER = _refused(403, "this service answers the gateway alone")

if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
