"""Episodes against labels, times in milliseconds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.labels import Label
from training.metrics import Span, match

MS = 1_000_000


def label(start_ms: float, end_ms: float) -> Label:
    """A fault from when to when."""
    return Label(round(start_ms * MS), round(end_ms * MS), "late")


def span(start_ms: float, end_ms: float, told_ms: float | None = None) -> Span:
    """An episode from when to when, told at its start if nothing else is said."""
    return Span(*(round(ms * MS) for ms in (start_ms, end_ms, start_ms if told_ms is None else told_ms)))


FAULT = label(1000, 1200)


@pytest.mark.parametrize(
    ("episode", "counts"),
    [
        pytest.param(span(1000, 1200), True, id="the label itself"),
        pytest.param(span(1100, 1100), True, id="a moment in it"),
        pytest.param(span(1300, 1300), True, id="100 ms after its end"),
        pytest.param(span(1300.1, 1400), False, id="more than 100 ms after its end"),
        pytest.param(span(500, 1000), True, id="0.5 s before its start"),
        pytest.param(span(499.9, 1100), False, id="more than 0.5 s before its start"),
        pytest.param(span(900, 999.9), False, id="over before its start"),
        pytest.param(span(1100, 2200), True, id="until 1 s after its end"),
        pytest.param(span(1100, 2200.1), False, id="until more than 1 s after its end"),
    ],
)
def test_an_episode_counts_near_its_label_only(episode: Span, counts: bool) -> None:
    """The definition's four bounds: reaction, early start, overlap, late end."""
    result = match([episode], [FAULT])
    assert result.found == [counts]
    assert result.false_episodes == (not counts)


@pytest.mark.parametrize(
    ("episode", "counts"), [(span(1000, 1000), True), (span(1100, 1100), True), (span(1101, 1101), False)]
)
def test_instantaneous_labels(episode: Span, counts: bool) -> None:
    """A label of no length is met by the moment itself and for 100 ms after it."""
    assert match([episode], [label(1000, 1000)]).found == [counts]


def test_episode_over_the_whole_trace_finds_nothing() -> None:
    """One long alarm is one false episode, however many faults it covers."""
    labels = [label(s, s + 100) for s in range(10_000, 100_000, 10_000)]
    result = match([span(0, 200_000)], labels)
    assert (sum(result.found), result.false_episodes) == (0, 1)


def test_episode_from_the_first_label_to_the_last_finds_nothing() -> None:
    """A long episode buys nothing either if it happens to begin and end at a label."""
    labels = [label(s, s + 100) for s in range(10_000, 100_000, 10_000)]
    result = match([span(10_000, 90_100)], labels)
    assert (sum(result.found), result.false_episodes) == (0, 1)


@pytest.mark.parametrize(("stretch_ms", "counts"), [(1500, True), (1500.1, False)])
def test_stretch_between_two_labels_is_limited(stretch_ms: float, counts: bool) -> None:
    """An episode may bridge 1.5 s between two of its labels, measured from the latest end so far."""
    labels = [label(1000, 5000), label(2000, 2100), label(5000 + stretch_ms, 9000)]
    result = match([span(1000, 9000)], labels)
    assert result.found == [counts] * 3
    assert result.false_episodes == (not counts)


def test_one_episode_finds_the_labels_it_overlaps() -> None:
    """Two faults 200 ms apart that are told as one episode are both found."""
    result = match([span(1000, 1500)], [label(1000, 1100), label(1300, 1400), label(4000, 4100)])
    assert (result.found, result.false_episodes) == ([True, True, False], 0)


def test_two_episodes_on_one_label_are_both_good() -> None:
    """The second episode of a fault is no false alarm."""
    result = match([span(1000, 1010), span(1150, 1160)], [FAULT])
    assert (result.found, result.false_episodes) == ([True], 0)


def test_latency_is_from_the_start_of_the_first_label_to_when_it_was_told() -> None:
    """Delays of the good episodes in ms, from the label's start and from its end."""
    result = match([span(1000, 1500, 1250), span(9000, 9000)], [FAULT, label(1400, 1450)])
    assert result.latency_ms == [250.0]
    assert result.latency_after_end_ms == [50.0]


def test_nothing_at_all() -> None:
    """Without labels every episode is false, without episodes every label is missed."""
    assert match([span(0, 1), span(5, 6)], []).false_episodes == 2
    assert match([], [FAULT]).found == [False]


@given(
    st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 3000), st.integers(0, 500)), max_size=8),
    st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 3000)), max_size=8),
)
def test_every_pair_looked_at(episodes: list[tuple[int, int, int]], faults: list[tuple[int, int]]) -> None:
    """The definition by hand for all pairs: found, false, and when each label was first told."""
    labels = sorted((label(start, start + length) for start, length in faults), key=lambda row: row.start_ns)
    spans = [span(start, start + length, start + late) for start, length, late in episodes]
    counts, told = [], [[] for _ in labels]  # type: tuple[list[bool], list[list[int]]]
    for one in spans:
        near = [
            i
            for i, fault in enumerate(labels)
            if one.start_ns <= fault.end_ns + 100 * MS and one.end_ns >= fault.start_ns
        ]
        ends = [max(labels[i].end_ns for i in near[: n + 1]) for n in range(len(near))]
        stretches = [labels[i].start_ns - end for i, end in zip(near[1:], ends, strict=False)]
        counts.append(
            bool(near)
            and one.start_ns >= labels[near[0]].start_ns - 500 * MS
            and one.end_ns <= ends[-1] + 1000 * MS
            and max(stretches, default=0) <= 1500 * MS
        )
        for i in near if counts[-1] else []:
            told[i].append(one.told_ns)
    result = match(spans, labels)
    assert result.counts == counts
    assert result.false_episodes == counts.count(False)
    assert result.told_ns == [min(moments, default=None) for moments in told]
    assert result.found == [bool(moments) for moments in told]
