"""Intervals of one PDU: 10 ms, between 9 and 11 over one interval and 19 and 21 over two."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.detect.intervals import Deviation, IntervalWatch
from tests.detect.scripts import MS, ns, pdu


def judged(
    times_ms: Sequence[float], counts_cycles: float = 0.1, jittery: bool = False
) -> list[Deviation | None]:
    """The deviation of each line of a PDU that came at these times."""
    known = pdu(one_ms=(5, 15), two_ms=(14, 26)) if jittery else pdu()
    watch = IntervalWatch(known, counts_cycles)
    found = [watch.arrive(ns(ms)) for ms in times_ms]
    return [d and d._replace(excess_cycles=round(d.excess_cycles, 6)) for d in found]


def test_lines_on_the_bounds_are_good() -> None:
    """The shortest and the longest interval of clean traffic are themselves inside."""
    assert judged([0, 9, 20, 30, 41, 50, 60]) == [None] * 7


@pytest.mark.parametrize(
    ("times_ms", "expected"),
    [
        ((0, 10, 18), Deviation("early", 1, 8 * MS, 0.1)),
        ((0, 10, 23), Deviation("late", 1, 13 * MS, 0.2)),
        ((0, 10, 10), Deviation("early", 1, 0, 0.9)),
        ((0, 10, 5010), Deviation("late", 1, 5000 * MS, 498.9)),
    ],
)
def test_excess_is_counted_in_cycles_beyond_the_bound(times_ms: Sequence[float], expected: Deviation) -> None:
    """A deviation tells its side, its span, and by how many cycles the span is outside."""
    assert judged(times_ms)[-1] == expected


def test_two_intervals_tell_only_where_they_tell_more() -> None:
    """A line that is late by itself is not told as two intervals, although those are too long as well."""
    late = judged([0, 10, 30])[-1]
    assert late is not None
    assert late.intervals == 1


def test_two_plausible_intervals_that_are_too_short_together() -> None:
    """One interval cut in two halves is found when the next two span only one cycle."""
    deviations = judged([0, 10, 20, 25, 30, 40, 50], jittery=True)
    assert deviations == [*[None] * 4, Deviation("early", 2, 10 * MS, 0.4), None, None]


def test_drift_of_two_intervals_inside_the_bounds_of_each() -> None:
    """Two long intervals in a row are told though each alone is possible."""
    assert judged([0, 15, 30], jittery=True)[-1] == Deviation("late", 2, 30 * MS, 0.4)


@pytest.mark.parametrize(
    "times_ms",
    [
        pytest.param((0, 10, 20, 36, 40, 50, 60), id="delayed, raster kept"),
        pytest.param((0, 10, 20, 36, 46, 56), id="delayed, raster moved"),
        pytest.param((0, 10, 20, 23, 30, 40, 50), id="extra"),
        pytest.param((0, 10, 20, 40, 50, 60), id="one missing"),
        pytest.param((0, 10, 20, 27, 40, 50, 60), id="early, raster kept"),
    ],
)
def test_only_the_odd_line_deviates(times_ms: Sequence[float]) -> None:
    """After one disturbance the next lines are good in the reading that explains them."""
    deviations = judged(times_ms)
    assert deviations[3] is not None
    assert [d for i, d in enumerate(deviations) if i != 3] == [None] * (len(times_ms) - 1)


def test_echo_of_a_deviation_too_small_to_count_is_judged() -> None:
    """A small deviation opens nothing, so the line after it is not excused for it."""
    times_ms = (0, 10, 21.5, 30)
    assert judged(times_ms, counts_cycles=0.01)[-1] is None
    assert judged(times_ms, counts_cycles=10.0)[-1] is not None


def test_second_disturbance_is_not_excused_as_an_echo_of_the_first() -> None:
    """A line that fits no reading of the odd line before it deviates by itself."""
    deviations = judged([0, 10, 20, 23, 26])
    assert [d is not None for d in deviations] == [False, False, False, True, True]


def test_pdu_sent_at_double_rate_goes_on_deviating() -> None:
    """Doubled messages are not explained away: at least every second line deviates."""
    deviations = judged([0, 10, *range(15, 200, 5)])
    assert sum(d is not None for d in deviations) >= len(range(15, 200, 5)) // 2


def test_reset_forgets_the_history() -> None:
    """After a reset the next line has no interval, and there is no deadline."""
    watch = IntervalWatch(pdu(), 0.1)
    for ms in (0, 10, 20, 25):
        watch.arrive(ns(ms))
    watch.reset()
    assert watch.overdue_ns(0.1) is None
    assert watch.arrive(ns(500)) is None
    assert watch.arrive(ns(510)) is None


def test_deadline_is_the_longest_interval_and_the_excess() -> None:
    """A line that comes at the deadline deviates by exactly the excess that the deadline was asked for."""
    watch = IntervalWatch(pdu(), 0.1)
    watch.arrive(ns(0))
    watch.arrive(ns(10))
    deadline = watch.overdue_ns(0.25)
    assert deadline == ns(23.5)
    late = watch.arrive(deadline)
    assert late is not None
    assert late.excess_cycles == pytest.approx(0.25)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([9.0, 10.0, 11.0]), min_size=1, max_size=30).map(lambda d: [10, *d]))
def test_intervals_within_all_bounds_are_always_good(deltas_ms: list[float]) -> None:
    """Any traffic whose spans over one and two intervals are inside gives no deviation."""
    times_ms = [float(sum(deltas_ms[:i])) for i in range(len(deltas_ms) + 1)]
    spans = [b - a for a, b in zip(times_ms, times_ms[2:], strict=False)]
    deviations = judged(times_ms)
    assert [d for d in deviations if d is not None and d.intervals == 1] == []
    if all(19 <= span <= 21 for span in spans):
        assert deviations == [None] * len(times_ms)
    else:
        assert any(d is not None for d in deviations)
