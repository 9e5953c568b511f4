"""The trainer's column of the table of questions: one answer a question."""

from __future__ import annotations

import pytest

from fl_client.trainer.calls import read_call
from fl_client.trainer.in_process import ANSWERS
from fl_core.errors import WireError
from fl_core.questions import INFO, QUESTIONS, TRAIN


def test_every_question_has_an_answer_and_every_answer_a_question():
    assert ANSWERS.keys() == QUESTIONS.keys()
    assert {question.message_type for question in QUESTIONS.values()} == {"query", "query.ranges", "train", "evaluate"}


def test_a_question_without_what_its_row_says_is_refused():
    with pytest.raises(WireError, match="question train: expected plan, model, got 1 items"):
        read_call(TRAIN, (b"{}",))
    with pytest.raises(WireError, match="question info: expected a plan and a model with it"):
        _ = read_call(INFO, ()).task
