"""What the end of a SuperNode's log means, in words for the person who looks after the board.

Flower 1.41 ends its SuperNode in each of these cases, so all of them are a matter of starting it again; the words say
what is being waited for, and what a person can do. A server that is merely away ends nothing: the SuperNode waits.
Where two boards have one identity, and this one came later, no further start mends it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from fl_client.standing import Standing
from fl_core.errors import IdentityError, StonecropError
from fl_core.process.supervise import ExitReason

SKEW_S = 300.0
"""Flower takes a SuperNode's signed time from 305 s old to 5 s ahead."""


_CASES: tuple[tuple[re.Pattern[str], ExitReason], ...] = (
    (
        # HTTP 412; the client shows Flower's own number of it.
        re.compile(r"\[code: 2004\] Failed to activate SuperNode|\b412 Precondition"),
        ExitReason(
            "the server still holds this device's last connection; it lets go of it within 60 s", longest_wait_s=5.0
        ),
    ),
    (
        re.compile(r"not yet valid|certificate has expired|401 Unauthorized|Invalid authentication"),
        ExitReason("the server does not accept this device's signature or certificate", perhaps_clock=True),
    ),
    (
        re.compile(r"403 Forbidden"),
        ExitReason("the server does not let this device in: its operator may have revoked it"),
    ),
    (
        re.compile(r"SSL/TLS handshake error|EOF occurred|UNEXPECTED_EOF"),
        ExitReason("the connection was cut while it was made", longest_wait_s=10.0, perhaps_clock=True),
    ),
    (
        re.compile(r"127\.0\.0\.1\W*(?P<port>\d+)\D.*[Aa]ddress already in use"),
        ExitReason(
            "another process of this machine holds port {port}; end it, or start with another --forwarder-port and "
            "--supernode-port"
        ),
    ),
    (
        re.compile(r"Connection (attempt failed|refused)|Name or service not known|host not found|unreachable"),
        ExitReason("the server cannot be reached", longest_wait_s=30.0),
    ),
)


def explain_end(tail: str) -> ExitReason | None:
    """What the last words of a SuperNode's log mean; None where they mean nothing known. The first case wins.

    The words of a case may name what its pattern found.
    """
    found = ((pattern.search(tail), end) for pattern, end in _CASES)
    return next((replace(end, words=end.words.format(**at.groupdict())) for at, end in found if at), None)


def explain_clock(ahead_s: float) -> str | None:
    """What a clock means that is ``ahead_s`` seconds ahead of the server's (below 0: behind); None if it will do."""
    if -SKEW_S <= ahead_s <= 5.0:
        return None
    side = "ahead of" if ahead_s > 0 else "behind"
    return (
        f"the clock of this device is {abs(ahead_s):.0f} s {side} the server's, so the server refuses what it signs; "
        "set it right: timedatectl set-ntp true"
    )


def with_server(
    ask: Callable[[], Standing], otherwise: Callable[[str], ExitReason | None]
) -> Callable[[str], ExitReason | None]:
    """``otherwise``, but where the server itself says why it has no use for this board.

    A SuperNode that the gateway refuses ends without a word of it. ``ask`` may raise StonecropError.
    """

    def explain(tail: str) -> ExitReason | None:
        with suppress(StonecropError, OSError, ValueError):
            found = ask()
            if found.trouble is not None:
                return ExitReason(found.trouble, exit_code=IdentityError.exit_code if found.is_second else None)
        return otherwise(tail)

    return explain


def with_clock(ahead_s: Callable[[], float]) -> Callable[[str], ExitReason | None]:
    """``explain_end`` that looks at the clock where that may be the reason, or nothing else is known to be.

    ``ahead_s`` may raise StonecropError.
    """

    def explain(tail: str) -> ExitReason | None:
        end = explain_end(tail)
        if end is not None and not end.perhaps_clock:
            return end
        try:
            words = explain_clock(ahead_s())
        except StonecropError:
            return end
        return end if words is None else replace(end or ExitReason(words), words=words)

    return explain
