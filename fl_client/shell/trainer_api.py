"""What a Flower shell needs of a trainer, wherever that trainer lives: a question's bytes in, a reply's bytes out.

The shell knows nothing else, so the same ClientApp serves a simulation, where the trainer is an object in the same
process, and a board, where it is another process behind a socket. Nothing here loads torch or looks into the bytes.
"""

from __future__ import annotations

from typing import Protocol

from fl_core.questions import Question, Request


class TrainerApi(Protocol):
    """The trainer of one client, as its shell sees it."""

    def ask(self, question: Question, request: Request) -> bytes:
        """The reply to one question, in the form that the question's row names.

        Raises:
            PrivacyError: policy, budget or allow-list refuse it; the shell answers with a refusal.
            StonecropError: the request cannot be read or carried out; the shell answers with an error reply.
        """
        ...
