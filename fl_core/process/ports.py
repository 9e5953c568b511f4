"""Whether a port of this machine is taken, which is how a process shows that it does its work."""

from __future__ import annotations

import socket


def listens(port: int, timeout_s: float = 1.0) -> bool:
    """Whether something takes connections on ``port`` of 127.0.0.1, within ``timeout_s``."""
    with socket.socket() as connection:
        connection.settimeout(timeout_s)
        return connection.connect_ex(("127.0.0.1", port)) == 0
