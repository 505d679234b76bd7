"""Events: what is found, false, excused and how late."""

import numpy as np
import pytest

from training.labels import Label
from training.measures.events import EventMeasures, measure_events
from training.measures.intervals import union
from training.measures.rates import HOUR_NS
from training.metrics import Span

MS = 1_000_000
LABELS = [Label(1000 * MS, 1200 * MS, "late"), Label(9000 * MS, 9100 * MS, "drop")]


def span(start_ms: float, end_ms: float, told_ms: float) -> Span:
    return Span(round(start_ms * MS), round(end_ms * MS), round(told_ms * MS))


def test_counts_and_delays() -> None:
    """Two episodes on one fault find it once, and the first one's delay counts."""
    episodes = [span(1100, 1110, 1150), span(1020, 1030, 1032), span(5000, 5001, 5001)]
    result = measure_events(episodes, LABELS, HOUR_NS // 2)
    assert result == EventMeasures(1, 2, 3, 1, 0, HOUR_NS // 2, (32.0,))
    assert result.recall == 0.5
    assert result.precision == pytest.approx(2 / 3)
    assert result.false_alarms.per_hour == 2.0


def test_no_fault_is_told_before_it_begins() -> None:
    """Where an alarm of an earlier fault goes on, a later one is told at once, not seconds in advance."""
    labels = [Label(1000 * MS, 1200 * MS, "late"), Label(2200 * MS, 2300 * MS, "late")]
    assert measure_events([span(900, 2300, 950)], labels, HOUR_NS).latency_ms == (0.0, 0.0)
    assert measure_events([span(1000, 2300, 1050)], labels, HOUR_NS).latency_ms == (50.0, 0.0)


def test_delays_as_quantiles() -> None:
    """Interpolated as numpy does; none without a found fault."""
    result = EventMeasures(latency_ms=tuple(float(i) for i in range(101)))
    assert (result.latency_quantile_ms(0.5), result.latency_quantile_ms(0.95)) == (50.0, 95.0)
    assert EventMeasures().latency_quantile_ms(0.5) is None


def test_what_is_set_aside_excuses() -> None:
    """A false episode that touches it is excused, one that tells a fault counts; a hidden fault does not."""
    aside = union([Span(1150 * MS, 1300 * MS, 0), Span(8000 * MS, 9500 * MS, 0)])
    episodes = [
        span(1180, 1190, 1185),
        span(2000, 2001, 2001),
        span(7900, 8000, 7900),
        span(9500, 9600, 9500),
    ]
    result = measure_events(episodes, LABELS, HOUR_NS, aside)
    assert result == EventMeasures(1, 1, 2, 1, 2, HOUR_NS, (185.0,))


def test_a_fault_that_reaches_out_of_what_is_set_aside_counts() -> None:
    """It could be seen."""
    aside = union([Span(9000 * MS, 9099 * MS, 0)])
    assert measure_events([], LABELS, HOUR_NS, aside).faults == 2
    assert measure_events([], LABELS, HOUR_NS, union([Span(9000 * MS, 9100 * MS, 0)])).faults == 1


def test_traces_are_pooled_by_counting() -> None:
    """Ratios come from sums: 1 of 1 and 1 of 3 are 2 of 4."""
    one = EventMeasures(1, 1, 2, 1, 0, HOUR_NS, (5.0,))
    other = EventMeasures(1, 3, 2, 0, 1, HOUR_NS, (7.0,))
    both = one + other
    assert both == EventMeasures(2, 4, 4, 1, 1, 2 * HOUR_NS, (5.0, 7.0))
    assert (both.recall, both.precision, both.false_alarms.per_hour) == (0.5, 0.75, 0.5)


def test_nothing_at_all() -> None:
    """No fault, no episode, no time: nothing is known, and nothing fails."""
    empty = measure_events([], [], 0)
    assert (empty.recall, empty.precision, empty.latency_ms) == (None, None, ())
    assert np.isnan(empty.false_alarms.per_hour)
