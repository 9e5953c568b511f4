"""Keeps the server's certificate fresh and true to its host, for those who look at it: devices and the gateway.

nginx reads it again at a reload, the SuperLink at its start alone. A run that is under way then goes on from its last
finished round, as after any death of the SuperLink.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fl_core.errors import IdentityError
from fl_server.gateway.authority import renew_server_certificate
from fl_server.gateway.nginx import reload_nginx

logger = logging.getLogger(__name__)

EVERY = datetime.timedelta(days=1)


@dataclass
class ServerCertificateRenewal:
    """Renews the certificate of the server ``host`` whose folder is ``root``; call ``step`` again and again."""

    root: Path
    host: str
    restart_superlink: Callable[[], None]
    _next: datetime.datetime | None = None

    def step(self, now: datetime.datetime) -> bool:
        """Look once a day whether it is due; says whether it was renewed. What goes wrong is tried again tomorrow."""
        if self._next is not None and now < self._next:
            return False
        self._next = now + EVERY
        try:
            if not renew_server_certificate(self.root, self.host, now):
                return False
            reload_nginx(self.root)
        except (IdentityError, OSError, ValueError) as error:  # a full disk, or a host that is no name
            logger.warning("the server's certificate cannot be renewed now: %s", error)
            return False
        self.restart_superlink()
        return True
