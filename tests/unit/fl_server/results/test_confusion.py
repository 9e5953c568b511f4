"""Counts of true against answered class: right for a hand-made case, absent where there are no classes."""

from __future__ import annotations

import numpy as np

from fl_core.data.federation import Examples
from fl_core.tasks.classification import Classification
from fl_core.tasks.regression import Regression
from fl_server.results.confusion import MOST_CLASSES, confusion_of

OUTPUT_BK = np.array([[9, 1, 0], [0, 5, 1], [0, 5, 1], [7, 0, 3]], np.float32)
EXAMPLES = Examples(np.zeros((4, 2), np.float32), np.array([0, 1, 2, 2]))


def test_rows_are_true_classes_and_columns_answers():
    assert confusion_of(Classification(), OUTPUT_BK, EXAMPLES, 3) == [[1, 0, 0], [0, 1, 0], [1, 1, 0]]


def test_there_is_none_without_classes_or_with_more_than_anybody_reads():
    numbers = Examples(EXAMPLES.x, np.zeros(4, np.float32))
    assert confusion_of(Regression(), OUTPUT_BK, numbers, 3) is None
    assert confusion_of(Classification(), OUTPUT_BK, EXAMPLES, MOST_CLASSES + 1) is None
    assert confusion_of(Classification(), OUTPUT_BK, EXAMPLES, 0) is None
