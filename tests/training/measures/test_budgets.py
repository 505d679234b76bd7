"""Thresholds from clean traffic, recall on other traffic."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.labels import Label
from training.measures.budgets import ScoredTrace, budget_curve, thresholds_for
from training.measures.intervals import observed_ns, union
from training.measures.rates import HOUR_NS
from training.metrics import Span

S = 1_000_000_000


def trace(times: list[int], scores: list[float], labels: tuple[Label, ...] = ()) -> ScoredTrace:
    return ScoredTrace(np.array(times, np.int64), np.array(scores, np.float64), labels)


def episodes(of: ScoredTrace, threshold: float, join_ns: int) -> int:
    """Counted line by line."""
    count, last = 0, -(10**9)
    for time, score, aside in zip(of.times_ns, of.scores, of.set_aside.hold(of.times_ns), strict=True):
        if score > threshold and not aside:
            count += time - last > join_ns
            last = time
    return count


@settings(deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 25), st.integers(0, 9)), min_size=2, max_size=30),
        min_size=1,
        max_size=3,
    ),
    st.lists(st.integers(0, 12), min_size=1, max_size=4),
    st.integers(0, 10),
    st.booleans(),
)
def test_lowest_threshold_below_which_there_are_too_many(
    rows: list[list[tuple[int, int]]], allowed: list[int], join_ns: int, gaps: bool
) -> None:
    """Every distinct score tried one by one from the highest gives the same, for any number of traces."""
    traces = []
    for part in rows:
        times = np.cumsum([gap for gap, _ in part])
        aside = union([Span(int(times[len(times) // 3]), int(times[len(times) // 2]), 0)] if gaps else [])
        traces.append(trace(times.tolist(), [float(s) for _, s in part])._replace(set_aside=aside))
    hours = sum(observed_ns(t.times_ns, t.set_aside) for t in traces) / HOUR_NS
    left = [s for t in traces for s in t.scores[~t.set_aside.hold(t.times_ns)].tolist()]
    if not hours or not left:
        return
    scores = sorted(set(left), reverse=True)
    expected = []
    for most in allowed:
        # Telling lines above the next lower score tells those of this one.
        lower = [*scores[1:], -np.inf]
        steps = [
            (s, sum(episodes(t, below, join_ns) for t in traces))
            for s, below in zip(scores, lower, strict=True)
        ]
        expected.append(next((s for s, count in steps if count > most), -np.inf))
    budgets = [(most + 0.5) / hours for most in allowed]
    assert thresholds_for(traces, budgets, join_ns) == expected


def test_many_lines_are_looked_at_in_growing_parts() -> None:
    """10,000 lines of one episode before the second: the threshold lies far down."""
    times = [i * S // 1000 for i in range(10_000)] + [3600 * S]
    scores = [1000.0 + i % 7 for i in range(10_000)] + [5.0]
    assert thresholds_for([trace(times, scores)], [0.0, 1.0, 2.0], S) == [1006.0, 5.0, -np.inf]


@pytest.mark.parametrize("before", [1, 1023])
def test_ties_are_told_at_once(before: int) -> None:
    """Of two lines with one score the first alone would be an episode too many; the second joins it.

    So it is too where the tie reaches over the end of the first 1024 lines.
    """
    times = [5, 8, *(10 + i % 3 for i in range(before))]
    clean = trace(sorted(times), [1.0, 1.0, *[2.0] * before])
    assert thresholds_for([clean], [1.5 / ((max(times) - 5) / HOUR_NS)], 3) == [-np.inf]


def test_recall_over_budgets() -> None:
    """The threshold of each budget comes from clean traffic; its rate is measured, not assumed."""
    clean = trace([i * 360 * S for i in range(11)], [0, 1, 2, 3, 9, 4, 5, 6, 8, 7, 0])  # one hour
    labels = (Label(100 * S, 101 * S, "late"), Label(500 * S, 501 * S, "late"))
    other = trace([i * S for i in (0, 100, 300, 500, 700, 1800)], [0, 8.5, 9.5, 7.5, 9, 0], labels)
    points = budget_curve([clean], [other], [0.5, 1, 2, 4], 0)
    assert [point.threshold for point in points] == [9.0, 8.0, 7.0, 5.0]
    assert [point.supported for point in points] == [False, True, True, True]
    assert [point.measured.recall for point in points] == [0.0, 0.5, 1.0, 1.0]
    assert [point.measured.false_alarms.per_hour for point in points] == [2.0, 4.0, 4.0, 4.0]


def test_lines_that_are_set_aside_find_nothing() -> None:
    """Though the fault reaches out of what is set aside."""
    clean = trace([0, HOUR_NS], [0.0, 1.0])
    faulty = trace([0, 5 * S, 9 * S], [0, 3, 0], (Label(4 * S, 8 * S, "late"),))
    aside = faulty._replace(set_aside=union([Span(3 * S, 6 * S, 0)]))
    for other, found in ((faulty, 1), (aside, 0)):
        measured = budget_curve([clean], [other], [0.5], 0)[0].measured
        assert (measured.found, measured.faults) == (found, 1)


def test_measured_traces_are_pooled() -> None:
    """Faults and time of both."""
    clean = trace([0, HOUR_NS], [0.0, 1.0])
    one = trace([0, HOUR_NS], [2.0, 0.0], (Label(0, 1, "late"),))
    two = trace([0, HOUR_NS], [0.0, 0.0], (Label(0, 1, "late"),))
    measured = budget_curve([clean], [one, two], [0.5], 0)[0].measured
    assert (measured.found, measured.faults, measured.observed_ns) == (1, 2, 2 * HOUR_NS)


def test_the_test_set_chooses_no_threshold() -> None:
    """Calibration traffic with labels, or the measured scores themselves, are refused."""
    clean = trace([0, HOUR_NS], [0.0, 1.0])
    faulty = trace([0, HOUR_NS], [0.0, 1.0], (Label(0, 1, "late"),))
    with pytest.raises(ValueError, match="has labels"):
        budget_curve([faulty], [clean], [1.0], 0)
    with pytest.raises(ValueError, match="other traffic"):
        budget_curve([clean], [clean], [1.0], 0)
    with pytest.raises(ValueError, match="needs clean traffic"):
        thresholds_for([trace([], [])], [1.0], 0)
