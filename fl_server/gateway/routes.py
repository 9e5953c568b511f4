"""The gateway's table of routes: all that passes between the network and the server, one row each.

nginx's configuration and the enrolment service are both made from this table, so that a path that nginx passes is one
that the service knows, with the same method and the same right to ask. What stands in no row is answered 404.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fl_core.identity import CA_PATH, ENROL_PATH, FLEET_PATH, RENEW_PATH, STATUS_PATH

MAX_REQUEST_BYTES = 32 * 1024
"""The largest body of a request to the enrolment service."""
FLEET_CALLS = (
    "activate-node",
    "deactivate-node",
    "send-node-heartbeat",
    "pull-messages",
    "push-messages",
    "get-run",
    "get-fab",
    "push-object",
    "pull-object",
    "confirm-message-received",
)
"""What a SuperNode with a key calls. register-node and unregister-node are left out: only the operator names nodes."""

Asker = Literal["anybody", "certificate", "approved device"]
"""Who may ask: ``certificate`` is a device that holds one and is not revoked, by the service's own look; ``approved
device`` is let in by an operator, holds its node key too, and is authorised by the service before nginx goes on."""


@dataclass(frozen=True)
class RateLimit:
    """How often one address may ask, over all routes that name this limit; more is answered 429."""

    zone: str
    per_second: int
    burst: int
    """Requests that may come at once on top of the rate."""


CERTIFYING = RateLimit("sign", per_second=10, burst=50)
"""The limit of what costs the service a signature."""
LOOKING_UP = RateLimit("ask", per_second=50, burst=100)
"""The limit of what costs the service a look at its registry."""
RATE_LIMITS = (CERTIFYING, LOOKING_UP)


@dataclass(frozen=True)
class GatewayRoute:
    """One row: what is asked, by whom, and where it goes.

    ``path`` goes upstream as it is written here, never as the request spells it.
    """

    path: str
    methods: tuple[str, ...]
    asker: Asker
    upstream: Literal["superlink", "service"]
    calls: tuple[str, ...] = ()
    """What may follow ``path``; nothing where it is empty."""
    max_body_bytes: int | None = None
    """The largest body of a request, which is then read into memory whole; None leaves the gateway's own bounds."""
    spooled: bool = False
    """Whether an answer may lie in a file until a slow client has taken it, up to the gateway's largest body."""
    rate: RateLimit | None = None

    @property
    def location(self) -> str:
        """The argument of nginx's ``location``; what follows ``path`` is named ``$call``."""
        return f"~ ^{self.path}(?<call>{'|'.join(self.calls)})$" if self.calls else f"= {self.path}"

    @property
    def upstream_path(self) -> str:
        """What nginx asks upstream for."""
        return f"{self.path}$call" if self.calls else self.path


ROUTES = (
    GatewayRoute(FLEET_PATH, ("POST",), "approved device", "superlink", FLEET_CALLS, spooled=True),
    GatewayRoute(ENROL_PATH, ("POST",), "anybody", "service", max_body_bytes=MAX_REQUEST_BYTES, rate=CERTIFYING),
    GatewayRoute(RENEW_PATH, ("POST",), "certificate", "service", max_body_bytes=MAX_REQUEST_BYTES, rate=CERTIFYING),
    GatewayRoute(STATUS_PATH, ("GET",), "certificate", "service", max_body_bytes=MAX_REQUEST_BYTES, rate=LOOKING_UP),
    GatewayRoute(CA_PATH, ("GET",), "anybody", "service", max_body_bytes=MAX_REQUEST_BYTES, rate=LOOKING_UP),
)
