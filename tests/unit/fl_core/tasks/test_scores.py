"""A task scores in one place: it cannot write to what it is given, and what it gives is one line where it is wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fl_core.errors import ConfigError
from fl_core.tasks.scores import example_scores, mean_score
from support import odd

WHO = "task.factory odd:X: round 3"
OUTPUTS = np.eye(4, dtype=np.float32)
CLASSES = np.array([0, 1, 0, 3])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (lambda score_B: score_B * np.nan, "expected finite numbers, got 4 others of 4 float64"),
        (lambda score_B: score_B / 0, "expected finite numbers, got 4 others of 4 float64"),
        (lambda score_B: score_B.astype(str), "expected finite numbers, got 4 others of 4 <U32"),
        (lambda score_B: score_B[:3], r"expected a numpy array .* each of 4 examples, shape \[4\], got \[3\]"),
        (lambda score_B: score_B.mean(), r"expected a numpy array .* got float64"),
        (lambda score_B: None, r"expected a numpy array .* got NoneType"),
        (lambda score_B: {}["sc"], r"KeyError: 'sc' \(.*test_scores.py, line \d+, in <lambda>\)"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero|invalid value:RuntimeWarning")
def test_scores_of_another_form_are_told_with_field_and_round(given: Callable[[np.ndarray], object], says: str) -> None:
    with pytest.raises(ConfigError, match=f"^{WHO}: example_score: {says}$") as caught:
        mean_score(odd.ScoresLike(given), WHO, OUTPUTS, CLASSES)
    assert len(caught.value.problems) == 1


def test_a_score_that_writes_is_refused_and_the_labels_stay() -> None:
    before = CLASSES.copy()
    with pytest.raises(ConfigError, match=r"example_score: ValueError: .*read-only \(.*odd.py, line \d+"):
        example_scores(odd.ScoresInPlace(), WHO, OUTPUTS, CLASSES)
    np.testing.assert_array_equal(CLASSES, before)
    assert CLASSES.flags.writeable


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16, np.float64])
def test_scores_are_numbers_of_any_kind(dtype: type) -> None:
    task = odd.ScoresLike(lambda score_B: score_B.astype(dtype))
    assert mean_score(task, WHO, OUTPUTS, CLASSES) == 0.75
