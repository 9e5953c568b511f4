"""Whether a port of this machine is taken, which is how a process shows that it does its work."""

from __future__ import annotations

import socket
from contextlib import suppress
from itertools import islice

LOOPBACK = "127.0.0.1"
_REACHED_BY = {"0.0.0.0": LOOPBACK, "::": LOOPBACK}
"""An address at which a process that listens on all of them is met."""


def listens(port: int, timeout_s: float = 1.0, address: str = LOOPBACK) -> bool:
    """Whether something takes connections on ``port`` of this machine's ``address``, within ``timeout_s``."""
    with suppress(OSError), socket.create_connection((_REACHED_BY.get(address, address), port), timeout_s):
        return True
    return False


def is_own_address(address: str) -> bool:
    """Whether this machine has an address, or can listen on it all the same."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with suppress(OSError), socket.socket(family) as probe:
        probe.bind((address, 0))
        return True
    return False


def free_ports_above(port: int, count: int) -> list[int]:
    """The next ports of loopback above ``port`` on which nothing listens just now; fewer where there are no more."""
    return list(islice((each for each in range(port + 1, 65536) if not listens(each)), count))
