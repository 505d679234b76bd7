"""Shares with exact intervals, and sizes at which they reach a level."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from training.measures.shares import crossing, share


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.99))
def test_the_interval_is_that_of_scipy(counts: tuple[int, int], confidence: float) -> None:
    """Clopper and Pearson's, by another implementation."""
    hits, trials = counts
    theirs = stats.binomtest(hits, trials).proportion_ci(confidence, method="exact")
    ours = share(hits, trials, confidence)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert ours.low <= ours.value <= ours.high
    assert ours.value == hits / trials


def test_nothing_tried_says_nothing() -> None:
    """The share of no trials may be anything."""
    nothing = share(0, 0)
    assert math.isnan(nothing.value)
    assert (nothing.low, nothing.high) == (0, 1)
    for hits, trials, confidence in ((2, 1, 0.95), (-1, 1, 0.95), (1, 2, 1.0)):
        with pytest.raises(ValueError, match="no interval"):
            share(hits, trials, confidence)


def test_the_crossing_lies_on_the_line_between_two_sizes() -> None:
    """Only where values stay up it counts; a value at the level is up."""
    assert crossing([0, 1, 3], [0.1, 0.5, 1.0], 0.9) == pytest.approx(1 + 2 * 0.4 / 0.5)
    assert crossing([0, 1, 3, 4], [0.95, 0.5, 0.7, 0.9], 0.9) == 4
    assert crossing([0, 1], [0.9, 0.9], 0.9) == 0
    assert crossing([0, 1, 2], [0.0, 1.0, 0.8], 0.9) is None
    assert crossing([0, 1], [math.nan, math.nan], 0.9) is None
    with pytest.raises(ValueError, match="2 sizes, but 1 values"):
        crossing([0, 1], [1.0], 0.9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.05, 0.95))
def test_from_the_crossing_on_nothing_is_below(values: list[float], level: float) -> None:
    """Checked at every size after it, and just before it where there is room."""
    sizes = [float(i) for i in range(len(values))]
    found = crossing(sizes, values, level)
    if found is None:
        assert values[-1] < level
        return
    assert all(value >= level for size, value in zip(sizes, values, strict=True) if size >= found)
    if found > 0:
        assert values[math.ceil(found) - 1] < level
