"""Peaks over time, and lines around a time, in bounded memory."""

from hypothesis import given
from hypothesis import strategies as st

from ecustream.dashboard.scores import ScoredLine, SourceScores, thinned
from ecustream.dashboard.series import Peak, PeakSeries
from tests.dashboard.examples import START_NS, S, make_scores

VALUES = st.lists(st.tuples(st.integers(0, 200), st.floats(1, 100)), max_size=60)


@given(VALUES)
def test_every_held_bucket_has_the_maximum_of_its_values(values: list[tuple[int, float]]) -> None:
    """Whatever the order, the newest buckets have the highest value since they came within reach."""
    series = PeakSeries(10, 8)
    for time_ns, value in values:
        series.add(time_ns, value, "x")
    newest = max((time_ns // 10 for time_ns, _ in values), default=0)
    # A bucket that is held now was held always.
    expected = {
        bucket * 10: max(v for t, v in values if t // 10 == bucket)
        for bucket in {t // 10 for t, _ in values}
        if bucket > newest - 8
    }
    assert {peak.time_ns: peak.value for peak in series.peaks()} == expected
    assert len(series) <= 8


@given(VALUES, st.integers(1, 10))
def test_changes_lead_to_what_is_held(values: list[tuple[int, float]], every: int) -> None:
    """Whoever takes every change and drops what is out of reach has the peaks."""
    series = PeakSeries(10, 8)
    copy: dict[int, Peak] = {}
    for i, (time_ns, value) in enumerate(values):
        series.add(time_ns, value, "x")
        if i % every == 0:
            copy |= {peak.time_ns: peak for peak in series.take_changed()}
    copy |= {peak.time_ns: peak for peak in series.take_changed()}
    assert sorted(copy.values())[-8:][-len(series) :] == series.peaks()
    assert series.take_changed() == []


def test_the_pdu_of_a_peak_is_that_of_its_maximum() -> None:
    """A lower value of another PDU in the same bucket changes nothing."""
    series = PeakSeries(10, 8)
    series.add(101, 5.0, "A")
    series.add(102, 4.0, "B")
    assert series.peaks() == [Peak(100, 5.0, "A")]


def test_warming_lines_are_left_out() -> None:
    """A score without a context says nothing, so it makes no peak and no line."""
    batch = make_scores([START_NS, START_NS + 1])
    batch.warming[0] = True
    batch.perplexity[0] = 1e9
    scores = SourceScores()
    scores.take(batch)
    assert [peak.value for peak in scores.series[0].peaks()] == [3.0]
    assert [line.time_ns for line in scores.lines_of({"ESC_00"}, 0, 2 * START_NS)] == [START_NS + 1]


def test_a_clock_that_goes_back_begins_anew() -> None:
    """More than a second back, and all is forgotten; less is only out of order."""
    scores = SourceScores()
    scores.take(make_scores([START_NS + 10 * S]))
    scores.take(make_scores([START_NS + 10 * S - S // 2]))
    assert not scores.begun_anew
    scores.take(make_scores([START_NS]))
    assert scores.begun_anew
    assert [line.time_ns for line in scores.lines_of({"ESC_00"}, 0, 2 * START_NS)] == [START_NS]


def test_lines_of_some_pdus_between_two_times() -> None:
    """Only theirs, both ends included, oldest first."""
    scores = SourceScores()
    scores.take(make_scores([START_NS + i for i in range(5)]))
    scores.take(make_scores([START_NS + 5], pdu="OTHER"))
    found = scores.lines_of({"ESC_00"}, START_NS + 1, START_NS + 3)
    assert [line.time_ns - START_NS for line in found] == [1, 2, 3]


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=200), st.integers(1, 20))
def test_thinning_keeps_order_and_the_highest(values: list[float], most: int) -> None:
    """At most so many remain, in their order, and the strangest line is among them."""
    lines = [ScoredLine(i, "x", value, 0.0) for i, value in enumerate(values)]
    kept = thinned(lines, most)
    assert len(kept) == min(most, len(lines))
    assert kept == sorted(kept)
    assert max(values) in {line.perplexity for line in kept}
