"""Line measures against scikit-learn, by hand, and of chance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    precision_recall_curve,
    precision_score,
    recall_score,
)

from tests.training.measures.series import Series, series
from training.measures.lines import composite_f1, confusion, curve, measure_lines


@settings(deadline=None)
@given(series())
def test_curve_as_scikit_learn_has_it(case: Series) -> None:
    """Every distinct score is a threshold; ties are told together."""
    labels, scores = np.array(case[0]), np.array(case[1])
    result = curve(scores, labels)
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    assert result is not None
    assert result.thresholds.tolist() == thresholds[::-1].tolist()
    assert result.precision.tolist() == pytest.approx(precision[:-1][::-1].tolist())
    assert result.recall.tolist() == pytest.approx(recall[:-1][::-1].tolist())


@settings(deadline=None)
@given(series())
def test_best_f1_is_the_best_of_all_thresholds(case: Series) -> None:
    """And its threshold gives it."""
    labels, scores = np.array(case[0]), np.array(case[1])
    result = curve(scores, labels)
    assert result is not None
    best, threshold = result.best_f1()

    def f1(at: float) -> float:
        return float(2 * (labels & (scores >= at)).sum() / (labels.sum() + (scores >= at).sum()))

    assert best == pytest.approx(max(f1(score) for score in case[1]))
    assert f1(threshold) == pytest.approx(best)


@settings(deadline=None)
@given(series(), st.integers(-2, 8))
def test_confusion_as_scikit_learn_has_it(case: Series, threshold: int) -> None:
    """At one threshold; what cannot be said is None."""
    labels, told = np.array(case[0]), np.array(case[1]) > threshold
    result = confusion(told, labels)
    assert result.recall == pytest.approx(recall_score(labels, told))
    assert result.f1 == pytest.approx(f1_score(labels, told, zero_division=0.0))
    if told.any():
        assert result.precision == pytest.approx(precision_score(labels, told))
    else:
        assert result.precision is None


def test_what_cannot_be_said() -> None:
    """Without labelled lines there is no recall, F1 or curve, but a prevalence of 0."""
    scores, none = np.array([1.0, 2.0]), np.zeros(2, np.bool_)
    assert confusion(scores > 1, none)[:] == (0, 0, 0, 1)
    assert (confusion(scores > 1, none).recall, confusion(scores > 1, none).f1) == (None, None)
    assert curve(scores, none) is None
    assert measure_lines(scores, none) == (2, 0.0, 0, 0.0, 0.0, None)
    assert measure_lines(scores[:0], none[:0]) == (0, 0.0, 0, None, 0.0, None)


def test_lines_that_do_not_count_do_not() -> None:
    """A mask is the same as leaving the lines out, and the share left out is told."""
    rng = np.random.default_rng(0)
    scores, labels, counted = rng.normal(size=200), rng.random(200) < 0.2, rng.random(200) < 0.75
    masked = measure_lines(scores, labels, counted)
    assert masked.excluded == pytest.approx(1 - counted.mean())
    assert masked._replace(excluded=0.0) == measure_lines(scores[counted], labels[counted])
    assert confusion(scores > 1, labels, counted) == confusion((scores > 1)[counted], labels[counted])
    inside, alone = curve(scores, labels, counted), curve(scores[counted], labels[counted])
    assert inside is not None
    assert alone is not None
    assert inside.recall.tolist() == alone.recall.tolist()


def test_ties_are_lines_whose_score_another_has() -> None:
    """Three of five."""
    assert measure_lines(np.array([1.0, 2, 2, 2, 3]), np.array([True] + [False] * 4)).ties == pytest.approx(
        0.6
    )


def test_a_random_score_has_the_prevalence() -> None:
    """50,000 lines, 2 % labelled: its average precision differs by chance alone; a perfect one has 1."""
    rng = np.random.default_rng(1)
    labels = rng.random(50_000) < 0.02
    random = measure_lines(rng.random(50_000), labels)
    assert random.prevalence is not None
    assert random.average_precision == pytest.approx(random.prevalence, rel=0.1)
    assert measure_lines(labels * 1.0 + rng.random(50_000) / 2, labels).average_precision == 1.0
    assert measure_lines(np.zeros(50_000), labels).average_precision == pytest.approx(random.prevalence)


@settings(deadline=None)
@given(series())
def test_average_precision_as_scikit_learn_has_it(case: Series) -> None:
    """None where there is nothing to tell apart."""
    labels, scores = np.array(case[0]), np.array(case[1])
    expected = None if labels.all() else pytest.approx(average_precision_score(labels, scores))
    assert measure_lines(scores, labels).average_precision == expected


def test_composite_f1() -> None:
    """Line precision with event recall: 0.5 and 1 give two thirds."""
    assert composite_f1(0.5, 1.0) == pytest.approx(2 / 3)
    assert composite_f1(None, 0.0) == 0.0
    assert composite_f1(0.5, None) is None


def test_shapes_must_agree() -> None:
    """A forgotten mask entry is an error, not a shift."""
    with pytest.raises(ValueError, match="one entry a line"):
        measure_lines(np.zeros(3), np.zeros(2, np.bool_))
    with pytest.raises(ValueError, match="one entry a line"):
        confusion(np.zeros(3, np.bool_), np.zeros(3, np.bool_), np.zeros(2, np.bool_))
