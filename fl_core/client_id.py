"""What a client may be called: one rule for the clients of a data set, of a simulation and for enrolled devices.

A client_id stands in certificates, in names of folders, in events and in reports, so it is a short plain word.
"""

from __future__ import annotations

import re
import unicodedata

_LENGTH = 63
_FORM = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{_LENGTH - 1}}}")
_OTHERS = re.compile(r"[^A-Za-z0-9._-]+")
_EXPECTED = f"expected 1 to {_LENGTH} letters (a-z), digits, dots, dashes or underscores, the first a letter or a digit"


def client_id_problem(client_id: object) -> str:
    """What is wrong with a client_id: what was expected, what came and what would do; empty where nothing is.

    >>> from fl_core.client_id import client_id_problem
    >>> client_id_problem("ward-3")
    ''
    >>> client_id_problem("ward 3/bed 1").rpartition(", ")[2]
    "got 'ward 3/bed 1'; try 'ward-3-bed-1'"
    """
    if not isinstance(client_id, str):
        proposal = plain_client_id(str(client_id)) if isinstance(client_id, int) else ""
        problem = f"{_EXPECTED}, as text, got {type(client_id).__name__} {client_id!r}"
    elif _FORM.fullmatch(client_id):
        return ""
    else:
        proposal, problem = plain_client_id(client_id), f"{_EXPECTED}, got {client_id[: 2 * _LENGTH]!r}"
    return f"{problem}; try {proposal!r}" if proposal else problem


def plain_client_id(text: str) -> str:
    """The client_id that is nearest to a text, which others may share; empty where no letter or digit is left."""
    letters = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return _OTHERS.sub("-", letters).lstrip("._-")[:_LENGTH].rstrip("._-")
