"""Parts of the baselines against plain definitions: charts, counts, intervals, thresholds, features."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.detect.scripts import Came as Sent
from tests.detect.scripts import at, calibration, ns, pdu, scored
from tests.training.baseline_traffic import CYCLES_MS, NUMBERS, at_ns, clean, columns
from tests.training.clean_traffic import MS, lines_of
from training.baselines.chart_score import cusum_score, ewma_score
from training.baselines.charts import Chart, Cusum, Ewma
from training.baselines.columns import Columns, Labelled, PduNumbers, joined
from training.baselines.drawn import draw_balanced, draw_rows, rows_of_matrix
from training.baselines.episodes import Moments, join_by_bus, threshold_for
from training.baselines.features import FEATURES, LearnedFeatures
from training.baselines.interval_rule import IntervalRule
from training.baselines.interval_score import FittedIntervals
from training.baselines.occurrences import Occurrences
from training.baselines.rhythm import Rhythm, learn_rhythms
from training.baselines.window_counts import WindowCounts
from training.metrics import Span


def plain_ewma(deviations: list[float], limit: float) -> list[float]:
    """Roberts' recursion, line by line."""
    mean, scores = 0.0, []
    sigma = math.sqrt(0.2 / 1.8)
    for x in deviations:
        if abs(mean) / sigma > limit and abs(x) <= 0.5:
            mean = 0.0
            scores.append(0.0)
            continue
        mean = 0.2 * x + 0.8 * mean
        scores.append(abs(mean) / sigma if abs(x) > 0.5 and mean * x > 0 else 0.0)
    return scores


def plain_cusum(deviations: list[float], limit: float) -> list[float]:
    """Page's recursion, line by line."""
    high = low = 0.0
    scores = []
    for x in deviations:
        if max(high, low) > limit and abs(x) <= 0.5:
            high = low = 0.0
            scores.append(0.0)
            continue
        high, low = max(0.0, high + x - 0.5), max(0.0, low - x - 0.5)
        scores.append(high if x > 0.5 else low if x < -0.5 else 0.0)
    return scores


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(-(10 * 2**8), 10 * 2**8).map(lambda n: n / 2**8), max_size=60),
    st.sampled_from([1.0, 3.0, 5.0, math.inf]),
    st.lists(st.integers(0, 60), max_size=3),
)
@pytest.mark.parametrize(("chart", "plain"), [(Ewma, plain_ewma), (Cusum, plain_cusum)])
def test_charts_are_their_recursions(
    chart: type[Chart], plain: object, deviations: list[float], limit: float, cuts: list[int]
) -> None:
    """Each chart against its textbook loop, for any cut of the deviations."""
    machine = chart(limit)
    edges = [0, *sorted(min(cut, len(deviations)) for cut in cuts), len(deviations)]
    scores = [machine.step(np.array(deviations[a:b], np.float64)) for a, b in pairwise(edges)]
    assert callable(plain)
    assert np.concatenate(scores) == pytest.approx(plain(deviations, limit), abs=1e-9)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(-3, 9)), max_size=50),
    st.integers(1, 20),
    st.integers(1, 50),
)
def test_windows_hold_what_came_before(steps: list[tuple[int, int]], window: int, cut: int) -> None:
    """Counts and intervals against comparing every line with every line before it."""
    times = np.cumsum(np.array([step for _, step in steps], np.int64))
    pdus = np.array([number for number, _ in steps], np.int32)
    lines = Columns(times, pdus, np.ones(len(times), np.int8))
    latest = [int(times[: i + 1][pdus[: i + 1] == pdus[i]].max()) for i in range(len(times))]
    before = [[latest[j] for j in range(i) if pdus[j] == pdus[i]] for i in range(len(times))]
    occurrences = Occurrences(lambda _: window)
    counts, intervals = np.full(len(times), -1), np.full(len(times), -1)
    for start in range(0, len(times), cut):
        for came in occurrences.add(lines.part(start, start + cut)):
            counts[start + came.rows] = came.within(window)
            intervals[start + came.following] = came.intervals_ns
    assert counts.tolist() == [
        sum(now - then < window for then in earlier) for now, earlier in zip(latest, before, strict=True)
    ]
    assert intervals.tolist() == [
        now - earlier[-1] if earlier else -1 for now, earlier in zip(latest, before, strict=True)
    ]


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=40),
    st.lists(st.integers(0, 400), max_size=40),
    st.sampled_from([0.5, 1.0, 2.5]),
    st.lists(st.integers(1, 80), max_size=3),
)
def test_watch_is_the_interval_rule(a: list[int], b: list[int], threshold: float, cuts: list[int]) -> None:
    """At a threshold it tells what the rule with bounds so many tolerances away tells, at the same time."""
    # A: cycle 10 ms, 1 ms early and 2 ms late; B: 20 ms, any interval is long enough, 4 ms late.
    rhythms = {
        0: Rhythm(10 * MS, 10 * MS, 9 * MS, 12 * MS, 0, 1),
        1: Rhythm(20 * MS, 20 * MS, 0, 24 * MS, 0, 1),
    }
    known = calibration(
        pdu("A", 10, one_ms=(10 - threshold, 10 + 2 * threshold)),
        pdu("B", 20, one_ms=(-1, 20 + 4 * threshold)),
    )
    sent: list[list[Sent]] = [at(*sorted(a)), at(*sorted(b), pdu="B")]
    lines = [score.line for score in scored(*sent)]
    rule = IntervalRule(known, 0.0)
    rule.add(lines)
    numbers = PduNumbers()
    numbers.columns([line for line in lines if line.stream.name == "A"])
    numbers.columns(lines)
    watch = FittedIntervals(rhythms).watch(threshold, numbers.sources)
    all_lines = numbers.columns(lines)
    edges = [0, *sorted(min(cut, len(lines)) for cut in cuts), len(lines)]
    for start, stop in pairwise(edges):
        watch.add(all_lines.part(start, stop))
    assert watch.spans(100 * MS) == rule.spans()


def test_watch_tells_what_is_overdue_at_a_gap() -> None:
    """A PDU whose deadline had passed when the capture was interrupted is told, one that was on time not."""
    rhythm = Rhythm(10 * MS, 10 * MS, 9 * MS, 11 * MS, 0, 1)
    watch = FittedIntervals({0: rhythm, 1: rhythm}).watch(2.0, NUMBERS.sources)
    watch.add(columns(lines_of({"A": [ns(0)], "B": [ns(0), ns(10), ns(20)]})))
    watch.gap()
    watch.add(columns(lines_of({"A": [ns(900), ns(910)], "B": [ns(900), ns(910)]})))
    assert watch.spans(500 * MS) == [Span(ns(12), ns(12), ns(12))]


def test_overdue_scores_as_if_it_came_now() -> None:
    """Two cycles after the last one a PDU of 10 ms and 1 ms of tolerance is 10 tolerances late."""
    rhythm = Rhythm(10 * MS, 10 * MS, 9 * MS, 11 * MS, 0, 1)
    scoring = FittedIntervals({0: rhythm, 1: rhythm}).begin()
    scoring.scores(columns(lines_of({"A": [ns(0)], "B": [ns(15)]})))
    pdus, scores = scoring.overdue(ns(20))
    assert (pdus.tolist(), scores.tolist()) == ([0], [10.0])


def test_interval_scores_count_tolerances() -> None:
    """0 on time, 1 at the bounds of clean traffic, in proportion beyond."""
    scoring = FittedIntervals({0: Rhythm(10 * MS, 10 * MS, 9 * MS, 12 * MS, 0, 1)}).begin()
    scores = scoring.scores(columns(lines_of({"A": [ns(t) for t in (0, 10, 19, 31, 47, 52)]})))
    assert scores.tolist() == pytest.approx([0, 0, 1, 1, 3, 5])


def test_rhythm_of_a_cyclic_and_of_an_event_driven_pdu() -> None:
    """Cycle and bounds of A; an irregular one has a typical interval only; a rare one nothing."""
    rng = np.random.default_rng(0)
    sent = {
        "A": [at_ns(0) + 10 * MS * i + (i % 7) * 100_000 for i in range(1000)],
        "B": (at_ns(0) + np.cumsum(rng.exponential(50 * MS, 200)).astype(np.int64)).tolist(),
        "C": [at_ns(t) for t in range(10)],
    }
    rhythms = learn_rhythms([columns(lines_of(sent))])
    assert set(rhythms) == {0, 1}
    assert rhythms[0].cycle_ns == rhythms[0].typical_ns == 10_100_000
    assert (rhythms[0].shortest_ns, rhythms[0].longest_ns) == (9_400_000, 10_100_000)
    assert rhythms[0].log_sd == pytest.approx(np.log([10.1] * 6 + [9.4]).std(), rel=0.01)
    assert rhythms[1].cycle_ns == 0
    assert rhythms[1].typical_ns == np.median(np.diff(sent["B"]))


def test_counts_of_lost_and_of_doubled_messages() -> None:
    """One message fewer or more than ever in the window of 10.5 cycles scores 1 beyond the band's edge."""
    regular = [at_ns(0) + 10 * MS * i for i in range(500)]
    fitted = WindowCounts().fit([columns(lines_of({"A": regular}))], [])
    lost = columns(lines_of({"A": regular[:300] + regular[301:]}))
    scores = fitted.begin().scores(lost)
    assert np.flatnonzero(scores).tolist() == list(range(300, 310))
    assert set(scores[300:310].tolist()) == {1.0}
    doubled = columns(lines_of({"A": sorted([*regular, regular[300] + MS])}))
    scores = fitted.begin().scores(doubled)
    assert np.flatnonzero(scores).tolist() == list(range(301, 312))


def test_counts_in_the_band_score_their_rarity() -> None:
    """-log10 of the share of clean counts as low or as high, the rarer of the two, at most 3."""
    lines = clean(1, 60)
    scores = WindowCounts().fit([lines], []).begin().scores(lines)
    own = lines.time_ns[lines.pdu == 0]
    window = int(10.5 * np.median(np.diff(own)))
    full = [t for t in own if t - own[0] >= window]
    counts = np.array([np.count_nonzero((own < t) & (own > t - window)) for t in full])
    shares = [min((counts <= count).mean(), (counts >= count).mean()) for count in counts]
    expected = [min(3.0, -math.log10(share)) for share in shares]
    assert scores[lines.pdu == 0][-len(full) :] == pytest.approx(expected)
    rare = sorted([*own.tolist(), own[3000] + 5 * MS])
    more = columns(lines_of({"A": rare, "B": lines.time_ns[lines.pdu == 1].tolist()}))
    rarest = WindowCounts().fit([more, *[lines] * 9], []).begin().scores(more)
    assert rarest.max() == 3.0


def test_chart_of_a_pdu_with_two_cycles_has_a_limit_of_its_own() -> None:
    """Clean traffic in which a PDU is sent five times as fast for 5 s is within its own limit."""
    rng = np.random.default_rng(1)
    intervals = np.concatenate([np.full(300, 100), np.full(250, 20), np.full(300, 100)])
    sent = at_ns(0) + np.cumsum(MS * (intervals + rng.normal(0, 1, len(intervals)))).astype(np.int64)
    lines = columns(lines_of({"A": sent.tolist()}))
    for baseline in (ewma_score(), cusum_score()):
        scores = baseline.fit([lines], []).begin().scores(lines)
        assert 0.5 < scores.max() <= 1.0


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 30), st.integers(0, 1), st.integers(0, 6)), max_size=40
    ),
    st.integers(0, 4),
)
def test_threshold_is_the_lowest_that_keeps_the_budget(
    moments: list[tuple[int, int, int, int]], allowed: int
) -> None:
    """Against counting the episodes above every score, from the highest down, until there are too many."""
    traces: list[Moments] = []
    for number in (0, 1):
        own = [moment[1:] for moment in moments if moment[0] == number]
        # A moment at either end, so that the two traces are an hour long.
        own = [(0, 0, -1), *own, (1800, 0, -1)]
        times, pdus, scores = (np.array(column) for column in zip(*own, strict=True))
        traces.append(Moments(times * 10**9, pdus.astype(np.int32), scores.astype(np.float64)))
    sources = ["ETH1", "ETH2"]
    expected = -math.inf
    for score in (*range(6, -2, -1),):
        episodes = 0
        for trace in traces:
            above = trace.scores >= score
            episodes += len(join_by_bus(trace.time_ns[above], trace.pdu[above], sources, 3 * 10**9))
        if episodes > allowed:
            expected = score
            break
    assert threshold_for(traces, sources, float(allowed), 3 * 10**9) == expected


def test_budget_of_less_than_one_alarm_allows_none() -> None:
    """With 1 an hour and 59 minutes of clean traffic the threshold is the highest score."""
    times = np.array([0, 59 * 60 * 10**9])
    moments = Moments(times, np.zeros(2, np.int32), np.array([3.0, 7.0]))
    assert threshold_for([moments], ["ETH1"], 1.0, 10**9) == 7.0
    assert threshold_for([moments], ["ETH1"], 1.1, 10**9) == 3.0
    assert threshold_for([], ["ETH1"], 1.0, 10**9) == -math.inf
    # A product that is one but for floating-point, 0.99999999999861, is one.
    third = Moments(np.array([0, 3600 * 10**9 // 49]), np.zeros(2, np.int32), np.array([3.0, 7.0]))
    assert threshold_for([third], ["ETH1"], 49.0, 10**9) == 3.0


def test_scores_that_are_equal_stand_or_fall_together() -> None:
    """Two moments that only a third one joins are one episode, though the third comes last in the trace."""
    times = np.array([0, 10, 3600, 5]) * 10**9
    moments = Moments(times, np.zeros(4, np.int32), np.array([5.0, 5.0, 1.0, 5.0]))
    assert threshold_for([moments], ["ETH1"], 1.0, 6 * 10**9) == 1.0


def test_episodes_are_those_of_one_bus() -> None:
    """Moments of two buses are not joined, and come back sorted by start."""
    times = np.array([30, 10, 12, 33, 90])
    spans = join_by_bus(times, np.array([0, 1, 0, 1, 1]), ["ETH1", "ETH2"], 20)
    assert spans == [Span(10, 10, 10), Span(12, 30, 12), Span(33, 33, 33), Span(90, 90, 90)]


def test_features_of_a_line() -> None:
    """A line of C that comes 1.5 cycles after the last one, after E and before that A, in startup."""
    lines = clean(1)
    learned = LearnedFeatures([lines])
    sent = {"C": [at_ns(1) + 20 * MS * i for i in range(60)]}
    sent["C"].append(sent["C"][-1] + 30 * MS)
    sent["A"], sent["E"] = [sent["C"][-1] - 2 * MS], [sent["C"][-1] - MS]
    wanted = columns(lines_of(sent))._replace(state=np.array([1] * 62 + [2], np.int8))
    features = dict(zip(FEATURES, learned.begin().matrix(wanted)[-1].tolist(), strict=True))
    typical_us = learned.rhythms[2].typical_ns / 1e3
    pairs = [(int(a), int(c)) for a, c in pairwise(lines.pdu)]
    pairs_two = [(int(a), int(c)) for a, c in zip(lines.pdu, lines.pdu[2:], strict=False)]
    own = lines.time_ns[lines.pdu == 2]
    in_1_s = np.mean([np.count_nonzero((own < t) & (own > t - 10**9)) for t in own])
    in_100_ms = np.mean([np.count_nonzero((own < t) & (own > t - 10**8)) for t in own])

    def rarity(pairs: list[tuple[int, int]], after: int) -> float:
        follows = [c for a, c in pairs if a == after]
        # Half a count more for each of the five PDUs and for one that is not known.
        return -math.log10((follows.count(2) + 0.5) / (len(follows) + 0.5 * (len(CYCLES_MS) + 1)))

    assert features == pytest.approx(
        {
            "interval in cycles": 30_000 / typical_us,
            "log10 of the interval in µs": math.log10(30_000),
            "octaves off the cycle": math.log2(30_000 / typical_us),
            "count in 0.1 s above its mean": 4 - in_100_ms,
            "count in 1 s above its mean": 49 - in_1_s,
            "log10 of the PDU's typical interval in µs": math.log10(typical_us),
            "-log10 of its share after the PDU before": rarity(pairs, 4),
            "-log10 of its share after the PDU before that": rarity(pairs_two, 0),
            "state is not initialized": 0.0,
            "state is startup-shutdown": 1.0,
        },
        rel=1e-5,
    )


def test_unknown_pdu_counts_as_on_time() -> None:
    """No interval, no count; only that nothing known comes before or after it is told."""
    learned = LearnedFeatures([clean(1, 60)])
    lines = Columns(at_ns(0) + MS * np.arange(9), np.full(9, 77, np.int32), np.ones(9, np.int8))
    matrix = learned.begin().matrix(lines)
    assert (matrix[:, 0] == 1).all()
    assert not matrix[:, [1, 2, 3, 4, 5, 8, 9]].any()
    # Nothing follows what is not known: each of six has half a count.
    assert matrix[:, 6] == pytest.approx(math.log10(6))


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=80), st.integers(1, 40), st.integers(0, 3))
def test_drawn_lines_are_balanced(labels: list[bool], count: int, seed: int) -> None:
    """Sorted rows of no line twice; half of each kind, or all of the rarer one and more of the other."""
    marks = np.array(labels, np.bool_)
    rows = draw_balanced(marks, count, seed)
    assert rows.tolist() == sorted(set(rows.tolist()))
    found = int(marks[rows].sum())
    known, others = int(marks.sum()), int((~marks).sum())
    half = count // 2
    assert len(rows) == min(count, known + others)
    if min(known, others) >= half:
        assert abs(2 * found - len(rows)) <= 1
    else:
        assert found == known or len(rows) - found == others
    assert np.array_equal(rows, draw_balanced(marks, count, seed))


def test_each_row_is_as_likely() -> None:
    """Over many keys every candidate is drawn about equally often."""
    counts = np.zeros(20)
    for key in range(2000):
        counts[draw_rows(np.arange(20), 5, key)] += 1
    assert counts.sum() == 10_000
    assert np.abs(counts - 500).max() < 5 * math.sqrt(500)


def test_drawn_features_are_those_of_the_whole() -> None:
    """Rows of two pieces are the rows of the pieces' own matrices, history and all."""
    first, second = clean(1), clean(2)
    learned = LearnedFeatures([first, second])
    whole = np.concatenate([learned.begin().matrix(first), learned.begin().matrix(second)])
    rows = np.array([0, 5, 700, len(first.time_ns) - 1, len(first.time_ns), len(whole) - 1])
    assert np.array_equal(rows_of_matrix(learned, [first, second], rows), whole[rows])


def test_numbers_go_on_from_trace_to_trace() -> None:
    """A PDU has one number in all traces; a new one gets the next."""
    numbers = PduNumbers()
    first = numbers.columns(lines_of({"A": [2, 3], "B": [1]}))
    second = numbers.columns(lines_of({"C": [1], "A": [2]}, source="ETH2"))
    assert (first.pdu.tolist(), second.pdu.tolist()) == ([0, 1, 1], [2, 1])
    assert (numbers.keys, numbers.sources) == (["B", "A", "C"], ["ETH1", "ETH1", "ETH2"])
    assert joined([first, second]).time_ns.tolist() == [1, 2, 3, 1, 2]
    assert len(joined([]).pdu) == 0
    assert Labelled(first, np.ones(3, np.bool_)).columns is first
