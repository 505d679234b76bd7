"""The two classifiers whose answers are computed here, beside scikit-learn's own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from training.baselines.classifiers import Neighbours, QuickSVC


@given(seed=st.integers(0, 2**32 - 1), lines=st.integers(2, 60), grid=st.booleans())
def test_answers_are_scikit_learns(seed: int, lines: int, grid: bool) -> None:
    """On any lines; on a grid many lie at the same place."""
    rng = np.random.default_rng(seed)
    known, asked = rng.normal(size=(lines, 3)), rng.normal(size=(40, 3))
    if grid:
        known, asked = known.round(), asked.round()
    labels = rng.random(lines) < 0.5
    labels[:2] = False, True
    own, reference = QuickSVC(random_state=0).fit(known, labels), SVC(random_state=0).fit(known, labels)
    assert own.decision_function(asked) == pytest.approx(reference.decision_function(asked), abs=1e-9)
    if lines < 15 or grid:
        # Which of many at the same distance are the 15 nearest is chance, and fewer scikit-learn refuses.
        return
    neighbours = KNeighborsClassifier(15, weights="distance").fit(known, labels)
    share = Neighbours().fit(known, labels).decision_function(asked)
    assert share == pytest.approx(neighbours.predict_proba(asked)[:, 1], abs=1e-9)


def test_neighbours_at_the_same_place_are_all_that_count() -> None:
    """As in scikit-learn."""
    known = np.array([[0.0], [0.0], [0.0], [1.0], [2.0]])
    neighbours = Neighbours().fit(known, np.array([True, True, False, True, True]))
    assert neighbours.decision_function(np.array([[0.0]])) == pytest.approx([2 / 3])
    # 1 / distance: three at 3, one at 2, one at 1; all but one of those at 3 are labelled.
    weights = np.array([1 / 3, 1 / 3, 1 / 3, 1 / 2, 1])
    assert neighbours.decision_function(np.array([[3.0]])) == pytest.approx(
        [(weights.sum() - 1 / 3) / weights.sum()]
    )


def test_more_lines_than_at_once() -> None:
    """Kernels are made in blocks."""
    rng = np.random.default_rng(1)
    known = rng.normal(size=(50, 3))
    labels = known[:, 0] > 0
    asked = rng.normal(size=(2500, 3)).astype(np.float32)
    own, reference = QuickSVC(random_state=0).fit(known, labels), SVC(random_state=0).fit(known, labels)
    assert own.decision_function(asked) == pytest.approx(reference.decision_function(asked), abs=1e-9)
