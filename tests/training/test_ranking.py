"""Rankings against scikit-learn, and where nothing can be said."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from training.ranking import auc, average_precision


@given(st.lists(st.tuples(st.integers(-3, 6), st.booleans()), min_size=2, max_size=60))
def test_as_scikit_learn_has_it(rows: list[tuple[int, bool]]) -> None:
    """With many ties, whatever the order."""
    scores = np.array([row[0] for row in rows], np.float32)
    positive = np.array([row[1] for row in rows])
    if positive.all() or not positive.any():
        assert auc(scores, positive) is None
        assert average_precision(scores, positive) is None
    else:
        assert auc(scores, positive) == pytest.approx(roc_auc_score(positive, scores))
        assert average_precision(scores, positive) == pytest.approx(average_precision_score(positive, scores))


def test_by_hand() -> None:
    """Ranks 1 and 3 of four are positive: 3 of 4 pairs; precisions 1/1 and 2/3."""
    scores, positive = np.array([9.0, 5.0, 4.0, 1.0]), np.array([True, False, True, False])
    assert auc(scores, positive) == 0.75
    assert average_precision(scores, positive) == pytest.approx((1 + 2 / 3) / 2)


def test_nothing_scored() -> None:
    """No score at all: nothing can be said."""
    none = np.empty(0, np.float32), np.empty(0, np.bool_)
    assert auc(*none) is None
    assert average_precision(*none) is None
