"""A question to the trainer, read once: the bytes that a shell handed on become a plan and tensors here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from fl_client.trainer.task import ClientTask
from fl_core import __version__
from fl_core.errors import WireError
from fl_core.questions import MODEL, PLAN, Question, Request
from fl_core.records import decode_model, decode_plan
from fl_core.types import RoundPlan, Tensors


@dataclass(frozen=True)
class Call:
    """One question with what came with it; plan and model are there where its row says so."""

    question: Question
    request: Request
    plan: RoundPlan | None = None
    model: Tensors | None = None

    @property
    def task(self) -> ClientTask:
        """Plan and model, for an answer that needs both.

        Raises:
            WireError: the question comes without one of them.
        """
        if self.plan is None or self.model is None:
            raise WireError(f"question {self.question.name}: expected a plan and a model with it")
        return ClientTask(self.plan, self.model)


class CallTrainer(Protocol):
    """A trainer of one client, as questions that have been read reach it."""

    def answer(self, call: Call) -> bytes:
        """The reply.

        Raises:
            PrivacyError: policy, budget or allow-list refuse it.
            StonecropError: it cannot be carried out.
        """
        ...


def read_call(question: Question, request: Request) -> Call:
    """Read what came with a question.

    Raises:
        WireError: an item is missing or cannot be read, or the plan was made by code of another version.
    """
    if len(request) != len(question.request):
        wanted = ", ".join(item.name for item in question.request) or "nothing"
        raise WireError(f"question {question.name}: expected {wanted}, got {len(request)} items")
    items = dict(zip(question.request, request, strict=True))
    plan = decode_plan(items[PLAN], __version__) if PLAN in items else None
    return Call(question, request, plan, decode_model(items[MODEL]) if MODEL in items else None)
