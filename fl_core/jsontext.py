"""JSON that another party wrote: whatever is wrong with it is one kind of error."""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """The value that ``text`` stands for.

    Raises:
        ValueError: it is no JSON, or is nested more deeply than can be read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(f"{len(text)} characters of JSON that is nested too deeply") from None
