"""PATE against its definition, the published package, and chance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.measures import definitions
from tests.training.measures.series import LABELS, RISING, Series, arrays, series
from training.measures.intervals import Intervals
from training.measures.proximity import pate


@settings(deadline=None)
@given(series(), st.integers(0, 9), st.integers(0, 9))
def test_as_defined(case: Series, early: int, late: int) -> None:
    """Positions for times: the definition, threshold by threshold."""
    times, scores, faults = arrays(*case)
    assert pate(times, scores, faults, [early], [late]) == pytest.approx(
        definitions.pate_area(*case, early, late)
    )


@pytest.mark.parametrize(
    ("early", "late", "value"),
    [(0, 0, 0.318858685847437), (5, 5, 0.3691610711174558), (10, 4, 0.38238795775268886)],
)
def test_as_published(early: int, late: int, value: float) -> None:
    """Values of PATE 0.1.1 (PyPI), summed as steps where it draws lines; each fault is found in one piece."""
    times, scores, faults = arrays(LABELS, RISING)
    assert pate(times, scores, faults, [0, early], [0, late]) == pytest.approx(value)


@settings(deadline=None)
@given(series(), st.integers(0, 6), st.integers(1, 50))
def test_only_order_and_proportion_count(case: Series, buffer: int, unit: int) -> None:
    """Growing transforms of the score change nothing, nor does where time begins."""
    times, scores, faults = arrays(*case)
    same = pate(times, scores, faults, [buffer], [buffer])
    assert pate(times, np.exp(scores) - 3, faults, [buffer], [buffer]) == same
    later = Intervals(faults.starts_ns + unit, faults.ends_ns + unit)
    assert pate(times + unit, scores, later, [buffer], [buffer]) == pytest.approx(same)


@settings(deadline=None)
@given(series(), st.integers(0, 6))
def test_a_perfect_score_has_1(case: Series, buffer: int) -> None:
    """With buffers as well as without."""
    times, _, faults = arrays(*case)
    labels = np.array(case[0], np.float64)
    assert pate(times, labels, faults, [0, buffer], [0, buffer]) == pytest.approx(1.0)


def test_a_random_score_has_about_the_share_of_faults() -> None:
    """20 faults of 100 lines in 100,000."""
    labels = [i % 5000 < 100 for i in range(100_000)]
    times, random, faults = arrays(labels, np.random.default_rng(2).random(100_000).tolist())
    assert pate(times, random, faults, [0], [0]) == pytest.approx(0.02, rel=0.1)


def test_early_alarms_count_if_the_fault_is_found() -> None:
    """The nearer the better; of a fault that is missed they are false."""
    labels = [i == 20 for i in range(40)]

    def value(at: int, score_of_fault: float) -> float:
        scores = [0.0] * 40
        scores[at], scores[20] = 1.0, score_of_fault
        times, values, faults = arrays(labels, scores)
        return pate(times, values, faults, [10], [0]) or 0.0

    assert value(19, 1.0) > value(12, 1.0) > value(9, 1.0)
    assert value(19, 0.0) == pytest.approx(value(9, 0.0), abs=0.02)


def test_what_cannot_be_said() -> None:
    """No fault with a line, or no buffer."""
    times, scores, faults = arrays([True, False], [0.0, 1.0])
    assert pate(times, scores, Intervals(faults.starts_ns + 9, faults.ends_ns + 9), [0], [0]) is None
    with pytest.raises(ValueError, match="a buffer"):
        pate(times, scores, faults, [], [0])
