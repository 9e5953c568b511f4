"""Loopback without a proxy: what runs on this machine talks to each other directly, whatever its environment says.

A company's proxy variables are for what lies outside. A client that follows them on loopback too asks the proxy for a
port of the proxy's own machine, and waits for ever.
"""

from __future__ import annotations

import logging
import os
from importlib.util import find_spec

logger = logging.getLogger(__name__)

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_EXCEPTIONS = ("no_proxy", "NO_PROXY")
"""Some programs read one, some the other; where both are there, most read the first alone."""
_FOR_SOCKS = "socksio"
"""What Flower's HTTP client needs for a SOCKS proxy; without it, it does not even start where one is named."""


def keep_loopback_direct() -> None:
    """Have this process, and all that it starts from now on, reach loopback without a proxy.

    What else the user's variables say stays, but for a SOCKS proxy where Flower's client cannot start with one.
    """
    given = ",".join(dict.fromkeys(os.environ.get(name, "") for name in _EXCEPTIONS))
    hosts = dict.fromkeys([*filter(None, map(str.strip, given.split(","))), *_LOOPBACK])
    os.environ.update(dict.fromkeys(_EXCEPTIONS, ",".join(hosts)))
    if find_spec(_FOR_SOCKS) is None:
        for name in [name for name in os.environ if name.lower() in _PROXIES]:
            if os.environ[name].lower().startswith("socks"):
                del os.environ[name]
                logger.warning("%s: expected an HTTP proxy, got one of SOCKS; it is left out", name)
