"""How a board speaks to the gateway: HTTPS by Python's own library, errors in words, and an eye on the clock.

A board without a battery clock may start in 1970, and every certificate then looks wrong. So whatever a certificate
is refused for its time, the server's Date header is asked, and a clock that differs is what the message names.
"""

from __future__ import annotations

import datetime
import http.client
import json
import ssl
import urllib.parse
from email.utils import parsedate_to_datetime
from typing import Any

from fl_core import __version__
from fl_core.errors import IdentityError, ServerAwayError
from fl_core.hostnames import canonical_host
from fl_core.identity import CA_PATH, INSTANCE_HEADER, RELEASE_HEADER, UnixTime

MAX_SKEW_S = 300.0
"""How wrong a board's clock may be: Flower refuses a SuperNode whose signed time is older than this."""

_TIMEOUT_S = 15.0
_MAX_ANSWER_BYTES = 64 * 1024
_NOT_YET_VALID, _EXPIRED = 9, 10  # OpenSSL's X509_V_ERR_*


def parse_address(url: str) -> tuple[str, int]:
    """Host and port of https://HOST:PORT; the host in the form in which the server's certificate holds it.

    Raises:
        IdentityError: it is something else.
    """
    try:
        parts = urllib.parse.urlsplit(url if "://" in url else f"https://{url}")
        port = 443 if parts.port is None else parts.port
        rest = (parts.username, parts.password, parts.query, parts.fragment, parts.path.strip("/"))
        if parts.scheme != "https" or not port or any(rest):
            raise ValueError("it has another scheme, or more than these")
        return canonical_host(parts.hostname or ""), port
    except ValueError as error:
        raise IdentityError(
            f"server address: expected https://HOST:PORT, an IPv6 HOST in brackets, got {url!r}: {error}"
        ) from None


def trusting(ca: bytes) -> ssl.SSLContext:
    """TLS that trusts the authority ``ca`` (PEM) and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ca.decode("ascii"))
    return context


def fetch_open(host: str, port: int) -> tuple[bytes, float]:
    """The public certificate and the time (Unix seconds) of a server that is not trusted yet.

    Raises:
        ServerAwayError: no gateway answers there.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # what is read is checked against the token, or is a hint
    status, headers, body = _exchange(host, port, "GET", CA_PATH, None, context, "")
    try:
        at = parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except (TypeError, ValueError):
        at = 0.0
    if status == 429:
        raise ServerAwayError(f"{host}:{port}: busy; try again in a while")
    if status != 200 or not at:
        raise ServerAwayError(f"{host}:{port}: expected a Stonecrop gateway that is ready, got status {status}")
    return body, at


def call(
    address: tuple[str, int],
    method: str,
    path: str,
    body: dict[str, str] | None,
    context: ssl.SSLContext,
    clock: UnixTime,
    instance: str = "",
) -> dict[str, Any]:
    """One call with the server's certificate checked, of the board that began as ``instance``; gives its JSON answer.

    Raises:
        IdentityError: the server refused, with its words; or its certificate or this board's clock is wrong.
        ServerAwayError: it cannot be reached or is not ready.
    """
    host, port = address
    try:
        status, _, data = _exchange(host, port, method, path, body, context, instance)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in (_NOT_YET_VALID, _EXPIRED):
            check_clock(host, port, clock)
        raise IdentityError(f"{host}:{port}: its certificate does not hold: {error.verify_message}") from None
    try:
        answer = json.loads(data)
        if not isinstance(answer, dict):
            raise ValueError
    except ValueError:
        raise ServerAwayError(f"{host}:{port}{path}: expected JSON, got {len(data)} other bytes ({status})") from None
    if status in (429, 500, 502, 503, 504):
        raise ServerAwayError(f"{host}:{port}: {answer.get('detail', status)}")
    if status != 200:
        raise IdentityError(f"{host}:{port} refused: {answer.get('detail', status)}")
    return answer


def _exchange(
    host: str, port: int, method: str, path: str, body: dict[str, str] | None, context: ssl.SSLContext, instance: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=context)
    headers = {RELEASE_HEADER: __version__, **({INSTANCE_HEADER: instance} if instance else {})}
    if body is not None:
        headers["Content-Type"] = "application/json"
    try:
        connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read(_MAX_ANSWER_BYTES)
    except ssl.SSLCertVerificationError:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise ServerAwayError(f"{host}:{port}: cannot be reached: {error or type(error).__name__}") from None
    finally:
        connection.close()


def check_clock(host: str, port: int, clock: UnixTime) -> None:
    """Say it plainly when the clock is what is wrong.

    Raises:
        IdentityError: it differs from the server's by more than ``MAX_SKEW_S``.
        ServerAwayError: the server cannot be reached.
    """
    check_skew(clock(), fetch_open(host, port)[1])


def check_skew(board_s: float, server_s: float) -> None:
    """Compare two clocks.

    Raises:
        IdentityError: they differ by more than ``MAX_SKEW_S``.
    """
    if abs(board_s - server_s) > MAX_SKEW_S:
        raise IdentityError(
            f"the clock of this board says {in_words(board_s)}, the server's {in_words(server_s)}: set it right "
            "(timedatectl set-ntp true) and try again"
        )


def in_words(at_s: float) -> str:
    """A time (Unix seconds) for a person."""
    return datetime.datetime.fromtimestamp(at_s, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
