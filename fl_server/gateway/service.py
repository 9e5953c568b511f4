"""The enrolment service behind nginx: enrols boards, renews certificates, and decides about each Fleet request.

It listens on loopback and answers only who shows the secret that nginx was configured with: another process of the
machine could otherwise claim any certificate. nginx has verified that a certificate is the authority's. Every refusal
carries its reason, in the form in which Flower's SuperNode prints it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
import sys
import time
import urllib.parse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pydantic
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fl_core.errors import IdentityError, StonecropError
from fl_core.identity import (
    CA_PATH,
    ENROL_PATH,
    INSTANCE_HEADER,
    RELEASE_HEADER,
    RENEW_PATH,
    STATUS_PATH,
    UnixTime,
)
from fl_core.process.structured_log import say_error
from fl_server.gateway.authority import DEVICE_DAYS, Authority
from fl_server.gateway.devices import DeviceRegistry
from fl_server.gateway.doubles import Doubles
from fl_server.gateway.enrolment import EnrolmentService, EnrolRequest, RenewRequest
from fl_server.gateway.layout import checked_root, service_secret
from fl_server.gateway.releases import Releases
from fl_server.gateway.routes import MAX_REQUEST_BYTES, ROUTES, GatewayRoute

NODE_KEY_HEADER = "flwr-public-key"  # Flower's: base64 of the PEM form
SECRET_HEADER = "x-gateway-secret"
CERTIFICATE_HEADER = "x-client-certificate"
REFUSAL_HEADER = "x-refusal"
HEALTH_PATH = "/healthz"
AUTH_PATH = "/auth"
_NOBODY = ""
_NO_CERTIFICATE = "a client certificate is needed"


def gateway_app(root: Path, clock: UnixTime = time.time, days: float = DEVICE_DAYS) -> ASGIApp:
    """The service of the server's folder ``root``, issuing certificates for ``days``.

    Raises:
        IdentityError: the folder has no authority.
    """
    files = checked_root(root)
    registry, releases, doubles = DeviceRegistry(files.devices), Releases(files.releases), Doubles(files.doubles)
    service = EnrolmentService(Authority(files), registry, releases, doubles, clock, days)
    routes = [
        Route(route.path, partial(_ask, route, service), methods=list(route.methods))
        for route in ROUTES
        if route.upstream == "service"
    ]
    app = Starlette(routes=[Route(HEALTH_PATH, _health), Route(AUTH_PATH, partial(_authorise, service)), *routes])
    secret = service_secret(files).encode()

    async def behind_nginx(scope: Scope, receive: Receive, send: Send) -> None:
        await (app if _shown_secret(scope, secret) else _SPOKEN_TO_BY_ANOTHER)(scope, receive, send)

    return behind_nginx


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _authorise(service: EnrolmentService, request: Request) -> Response:
    """What nginx asks before it passes a request of a device: 204, or 401 with the reason."""
    fingerprint = _fingerprint(request)
    if fingerprint is None:
        reason: str | None = _NO_CERTIFICATE
    else:
        node_key, instance = (request.headers.get(name) for name in (NODE_KEY_HEADER, INSTANCE_HEADER))
        reason = await run_in_threadpool(service.refusal, fingerprint, node_key, instance or "")
    return Response(status_code=204) if reason is None else _refused(401, reason)


async def _ask(route: GatewayRoute, service: EnrolmentService, request: Request) -> Response:
    """Answer one of the routes that lead here, if whoever asks may."""
    fingerprint = _fingerprint(request) if route.asker != "anybody" else _NOBODY
    if fingerprint is None:
        return _refused(401, _NO_CERTIFICATE)
    return await _ENDPOINTS[route.path](service, request, fingerprint)


async def _ca(service: EnrolmentService, _: Request, __: str) -> Response:
    return Response(service.authority.pem, media_type="application/x-pem-file")


async def _enrol(service: EnrolmentService, request: Request, _: str) -> Response:
    return await _answer(lambda body: service.enrol(EnrolRequest.model_validate_json(body)), request)


async def _renew(service: EnrolmentService, request: Request, fingerprint: str) -> Response:
    return await _answer(lambda body: service.renew(RenewRequest.model_validate_json(body), fingerprint), request)


async def _status(service: EnrolmentService, request: Request, fingerprint: str) -> Response:
    release, instance = (request.headers.get(name, "") for name in (RELEASE_HEADER, INSTANCE_HEADER))
    return await _answer(lambda _: service.status(fingerprint, release, instance), request)


_ENDPOINTS = {CA_PATH: _ca, ENROL_PATH: _enrol, RENEW_PATH: _renew, STATUS_PATH: _status}
"""What answers each route; it gets the fingerprint of the asker's certificate where the table asks for one."""


def service_command(root: Path, port: int) -> list[str]:
    """The command line that runs the service of ``root`` on loopback ``port``."""
    return [sys.executable, "-m", "fl_server.gateway.service", str(root), str(port)]


def run_service(root: Path, port: int) -> None:
    """Run the service of ``root`` on 127.0.0.1:``port`` until it is told to stop."""
    uvicorn.run(
        gateway_app(root), host="127.0.0.1", port=port, log_level="warning", access_log=False, server_header=False,
        limit_concurrency=512, timeout_keep_alive=65, timeout_graceful_shutdown=5,
    )  # fmt: skip


def _shown_secret(scope: Scope, secret: bytes) -> bool:
    """Whether a request comes from nginx, or may come from anybody, as the health check may."""
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


_SPOKEN_TO_BY_ANOTHER = _refused(403, "this service answers the gateway alone")

if __name__ == "__main__":
    try:
        run_service(Path(sys.argv[1]), int(sys.argv[2]))
    except StonecropError as error:
        say_error(str(error))
        sys.exit(error.exit_code)
