"""Unions of intervals, runs of lines, and what lies in them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.measures.intervals import NOWHERE, Intervals, observed_ns, runs, union
from training.metrics import Span

PAIRS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=8)


def spans(pairs: list[tuple[int, int]]) -> list[Span]:
    return [Span(start, start + length, start) for start, length in pairs]


@given(PAIRS)
def test_union_holds_what_its_parts_hold(pairs: list[tuple[int, int]]) -> None:
    """Both ends included; the result is in order and does not meet."""
    joined = union(spans(pairs))
    held = [any(start <= moment <= start + length for start, length in pairs) for moment in range(80)]
    assert joined.hold(np.arange(80)).tolist() == held
    assert (joined.starts_ns[1:] > joined.ends_ns[:-1]).all()


@given(PAIRS, st.lists(st.integers(0, 80), max_size=20))
def test_holding_keeps_those_with_a_time(pairs: list[tuple[int, int]], times: list[int]) -> None:
    """An interval without a time in it is left out."""
    joined, sorted_times = union(spans(pairs)), np.array(sorted(times), np.int64)
    kept = joined.holding(sorted_times)
    expected = [
        (start, end)
        for start, end in zip(joined.starts_ns.tolist(), joined.ends_ns.tolist(), strict=True)
        if any(start <= time <= end for time in times)
    ]
    assert list(zip(kept.starts_ns.tolist(), kept.ends_ns.tolist(), strict=True)) == expected


def test_runs_join_what_is_near() -> None:
    """Flagged lines exactly the join apart are one region, 1 ns more are two."""
    times = np.array([0, 10, 15, 20, 31, 50], np.int64)
    flagged = np.array([True, True, False, True, True, False])
    regions = runs(times, flagged, 10)
    assert (regions.starts_ns.tolist(), regions.ends_ns.tolist()) == ([0, 31], [20, 31])
    assert runs(times, np.zeros(6, np.bool_), 10) is NOWHERE


def test_observed_time_is_without_what_is_set_aside() -> None:
    """From the first line to the last; what lies outside takes nothing away."""
    times = np.array([100, 150, 300], np.int64)
    aside = Intervals(np.array([0, 140, 290]), np.array([110, 160, 999]))
    assert observed_ns(times) == 200
    assert observed_ns(times, aside) == 200 - 10 - 20 - 10
    assert observed_ns(times[:0], aside) == 0
