"""What is done to the parts of an update on their way: a chain, forward on the client and reversed on the server.

    client: conclude -> first.forward -> ... -> last.forward -> encode
    server: decode -> last.backward -> ... -> first.backward -> admission

So a strategy and admission see parts as they were made, whatever travelled. The chain is empty: parts travel as they
are. A codec or a mask is one more entry of ``PART_TRANSFORMS``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from fl_core.types import Part

UpdateParts = Mapping[str, Part]


class PartTransform(Protocol):
    """One link of the chain; both halves are pure, and the origin of a part's privacy stays what it was."""

    def forward(self, parts: UpdateParts) -> UpdateParts:
        """What travels in place of ``parts``: everything here comes after clip and noise."""
        ...

    def backward(self, parts: UpdateParts) -> UpdateParts:
        """The parts again, exactly or as near as this link promises.

        Raises:
            UpdateRejectedError: this link cannot have made ``parts``.
        """
        ...


PART_TRANSFORMS: tuple[PartTransform, ...] = ()
"""The chain of every client and of the server, in the client's order."""


def transformed(parts: UpdateParts, chain: Sequence[PartTransform]) -> UpdateParts:
    """``parts`` as they travel."""
    for link in chain:
        parts = link.forward(parts)
    return parts


def restored(parts: UpdateParts, chain: Sequence[PartTransform]) -> UpdateParts:
    """What ``transformed`` made of some parts, as they were before."""
    for link in reversed(chain):
        parts = link.backward(parts)
    return parts
