"""Names and addresses of hosts in the one form in which a certificate holds them and a device checks them.

A certificate holds DNS names as A-labels (RFC 5280, 7.2) and addresses as numbers, while people write names in their
own script, with capitals or with a dot at the end. Server and device bring what they were given into the same form
here, so that what one certifies is what the other looks for. International names follow IDNA 2008 (RFC 5891) after the
mapping of UTS 46, as browsers do.
"""

from __future__ import annotations

import ipaddress
import re

_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_MOST_CHARACTERS = 253
_MOST_SHOWN = 80
_SIGNS = (
    ("://", "leave out the scheme and everything after the name"),
    ("[", "write an IPv6 address without brackets"),
    ("/", "leave out everything after the name"),
    ("@", "leave out everything before the name"),
    (":", "the port is given apart"),
    ("_", "a name has no underscores; use another one, or the address"),
    ("*", "give the name itself, not all names of a domain"),
)
"""What people write that is no host, by what it can be told from."""


def canonical_host(text: str) -> str:
    """A host as its certificate holds it: an address in its shortest form, a DNS name in lower case and as A-labels.

    Raises:
        ValueError: it is neither; the message says what was expected, what came, and what to write instead.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return _canonical_name(text)
    if "%" in text:
        raise _refusal(text, "a zone has a meaning on one machine alone")
    if address.is_unspecified:
        raise _refusal(text, "it stands for all addresses of this machine; give the one that others reach")
    return str(address)


def canonical_address(text: str) -> str:
    """An IPv4 or IPv6 address in its shortest form.

    Raises:
        ValueError: it is none, or has a zone.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        address = None
    if address is None or "%" in text:
        raise ValueError(f"expected an IPv4 or IPv6 address without brackets, port or zone, got {text!r}")
    return str(address)


def is_address(host: str) -> bool:
    """Whether a host in its canonical form is an address."""
    return _NUMBER.fullmatch(host.rpartition(".")[2]) is not None or ":" in host


def bracketed(host: str) -> str:
    """A canonical host as it stands before a port, in a URL or in nginx's configuration."""
    return f"[{host}]" if ":" in host else host


def _canonical_name(text: str) -> str:
    for sign, why in _SIGNS:
        if sign in text:
            raise _refusal(text, why)
    name = _ascii(text).removesuffix(".")
    labels = name.split(".")
    if not all(map(_LABEL.fullmatch, labels)):
        raise _refusal(text, "each part has 1 to 63 letters, digits and dashes, and no dash at an end")
    if len(name) > _MOST_CHARACTERS:
        raise _refusal(text, f"a name has at most {_MOST_CHARACTERS} characters")
    if _NUMBER.fullmatch(labels[-1]):
        raise _refusal(text, "what ends in a number is an IPv4 address of four numbers from 0 to 255")
    return name


def _ascii(text: str) -> str:
    """A name in lower case whose international labels are A-labels."""
    name = text.lower()
    if name.isascii() and "xn--" not in name:
        return name
    import idna  # its tables are loaded where they are needed

    try:
        return idna.encode(text, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise _refusal(text, str(error)) from None


def _refusal(text: str, why: str) -> ValueError:
    shown = repr(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…")
    return ValueError(f"expected a DNS name such as fleet.example, or an IPv4 or IPv6 address, got {shown}: {why}")
