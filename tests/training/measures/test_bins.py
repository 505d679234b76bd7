"""Peaks of a score at an even rate."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.measures.bins import peaks


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(-5, 5)), max_size=40), st.integers(1, 40))
def test_each_bin_has_its_highest_score(rows: list[tuple[int, int]], width: int) -> None:
    """Bins without a line are left out."""
    rows = sorted(rows)
    starts, scores = peaks(
        np.array([t for t, _ in rows], np.int64), np.array([float(s) for _, s in rows]), width
    )
    expected: dict[int, float] = {}
    for time, score in rows:
        start = time // width * width
        expected[start] = max(expected.get(start, -9.0), score)
    assert dict(zip(starts.tolist(), scores.tolist(), strict=True)) == expected
