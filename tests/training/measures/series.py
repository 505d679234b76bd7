"""Small series for tests: labels and scores at 0, 1, 2, ..., and one that published packages have judged."""

import numpy as np
from hypothesis import strategies as st

from training.measures.intervals import Intervals, Scores, Times, runs

Series = tuple[list[bool], list[float]]


@st.composite
def series(draw: st.DrawFn) -> Series:
    """Up to 40 points with a fault at least, and scores with many ties."""
    points = draw(st.lists(st.tuples(st.booleans(), st.integers(-2, 8)), min_size=2, max_size=40))
    labels = [label for label, _ in points]
    if not any(labels):
        labels[draw(st.integers(0, len(labels) - 1))] = True
    return labels, [float(score) for _, score in points]


def arrays(labels: list[bool], scores: list[float]) -> tuple[Times, Scores, Intervals]:
    """Positions, scores and faults."""
    times = np.arange(len(labels), dtype=np.int64)
    return times, np.array(scores), runs(times, np.array(labels, np.bool_), 1)


LABELS = [10 <= i <= 14 or 30 <= i <= 41 or i == 50 for i in range(60)]
SCORES = [(i * 37 % 61) / 61 + (0.4 + i / 600 if LABELS[i] else 0.0) for i in range(60)]
RISING = [0.3 + i / 100 if LABELS[i] else (i * 37 % 61) / 61 for i in range(60)]
"""Scores that find each fault from its end on, in one piece."""
