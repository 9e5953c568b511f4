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
_NAMED = 3


def client_id_problem(*client_ids: object) -> str:
    """What is wrong with client_ids: what was expected, what came and what would do; empty where nothing is.

    >>> from fl_core.client_id import client_id_problem
    >>> client_id_problem("ward-3")
    ''
    >>> client_id_problem("ward 3/bed 1").rpartition(", ")[2]
    "got 'ward 3/bed 1' (try 'ward-3-bed-1')"
    """
    wrong = [each for each in client_ids if not isinstance(each, str) or not _FORM.fullmatch(each)]
    if not wrong:
        return ""
    more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
    return f"{_EXPECTED}, got {', '.join(map(_shown, wrong[:_NAMED]))}{more}"


def plain_text(text: str) -> str:
    """A text of any class of text (numpy has one) as Python's own, which is what seeds, events and files are made of.

    >>> import numpy as np
    >>> from fl_core.client_id import plain_text
    >>> type(plain_text(np.str_("ward-3")))
    <class 'str'>
    """
    return str.__str__(text)


def _shown(client_id: object) -> str:
    if isinstance(client_id, str):
        text, proposal = repr(client_id[: 2 * _LENGTH]), plain_client_id(client_id)
    else:
        text = f"{type(client_id).__name__} {client_id!r}"
        proposal = plain_client_id(str(client_id)) if isinstance(client_id, int) else ""
    return f"{text} (try {proposal!r})" if proposal else text


def plain_client_id(text: str) -> str:
    """The client_id that is nearest to a text, which others may share; empty where no letter or digit is left."""
    letters = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return _OTHERS.sub("-", letters).lstrip("._-")[:_LENGTH].rstrip("._-")
