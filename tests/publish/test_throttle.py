"""Thinning of scores."""

from itertools import pairwise

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.publish.throttle import ScoreThrottle, thin
from tests.publish.examples import make_scores

MS = 1_000_000


def test_first_batch_goes_at_once_and_the_rest_in_its_time() -> None:
    """A batch goes out at once after a pause, and what comes within 50 ms goes out together."""
    throttle = ScoreThrottle()
    throttle.add(make_scores([1.0]))
    assert [batch.perplexity for batch in throttle.ready(0)] == [[1.0]]
    throttle.add(make_scores([2.0]))
    throttle.add(make_scores([3.0]))
    assert throttle.ready(49 * MS) == []
    assert throttle.next_due_ns() == 50 * MS
    assert [batch.perplexity for batch in throttle.ready(50 * MS)] == [[2.0, 3.0]]
    assert throttle.next_due_ns() is None


def test_sources_do_not_wait_for_each_other() -> None:
    """The limit holds for each source by itself."""
    throttle = ScoreThrottle()
    throttle.add(make_scores([1.0], source="eth1"))
    throttle.ready(0)
    throttle.add(make_scores([1.0], source="eth1"))
    throttle.add(make_scores([1.0], source="eth2"))
    assert [batch.source for batch in throttle.ready(1)] == ["eth2"]
    assert [batch.source for batch in throttle.flush()] == ["eth1"]
    assert throttle.flush() == []


@given(
    steps=st.lists(st.lists(st.integers(0, 4), max_size=8), max_size=60),
    step_ms=st.integers(1, 60),
)
@settings(deadline=None, max_examples=100)
def test_the_traces_of_a_source_share_its_rate(steps: list[list[int]], step_ms: int) -> None:
    """Together they have 20 messages a second, in turns, each of one trace, and no line is lost."""
    throttle = ScoreThrottle()
    sent_ns: list[int] = []
    batches = []
    waiting: list[str] = []
    for i, traces in enumerate(steps):
        for trace in map(str, traces):
            throttle.add(msgspec.structs.replace(make_scores([float(i + 1)]), trace=trace))
            if trace not in waiting:
                waiting.append(trace)
        now_ns = i * step_ms * MS
        due_ns = throttle.next_due_ns()
        ready = throttle.ready(now_ns)
        assert len(ready) == (due_ns is not None and due_ns <= now_ns)
        assert [batch.trace for batch in ready] == waiting[: len(ready)]
        del waiting[: len(ready)]
        sent_ns += [now_ns] * len(ready)
        batches += ready
    assert all(b - a >= 50 * MS for a, b in pairwise(sent_ns))
    batches += throttle.flush()
    for trace in "01234":
        given_lines = [float(i + 1) for i, traces in enumerate(steps) for t in traces if str(t) == trace]
        assert [p for batch in batches if batch.trace == trace for p in batch.perplexity] == given_lines


@given(
    chunks=st.lists(st.lists(st.floats(1, 1e6), max_size=60), max_size=40),
    max_lines=st.integers(2, 20),
    step_ms=st.integers(1, 60),
)
@settings(deadline=None, max_examples=100)
def test_rate_size_and_peaks(chunks: list[list[float]], max_lines: int, step_ms: int) -> None:
    """At most 20 messages in any second, each of bounded size, and the highest score is always among them."""
    throttle = ScoreThrottle(max_lines=max_lines)
    sent_ns: list[int] = []
    batches = []
    for i, chunk in enumerate(chunks):
        throttle.add(make_scores(chunk))
        ready = throttle.ready(i * step_ms * MS)
        sent_ns += [i * step_ms * MS] * len(ready)
        batches += ready
    batches += throttle.flush()
    assert all(b - a >= 50 * MS for a, b in pairwise(sent_ns))
    assert all(len(batch.times_ns) <= max_lines for batch in batches)
    everything = [value for chunk in chunks for value in chunk]
    kept = [value for batch in batches for value in batch.perplexity]
    assert max(kept, default=0) == max(everything, default=0)
    assert min(kept, default=0) == min(everything, default=0)  # where the surprisal has its peak
    assert set(kept) <= set(everything)


def test_memory_is_bounded_where_nobody_collects() -> None:
    """Scores that nobody sends are thinned out in place, peaks kept."""
    throttle = ScoreThrottle(max_lines=4)
    for i in range(200):
        throttle.add(make_scores([2.0] * 9 + [1000.0 if i == 77 else 3.0]))
        assert len(next(iter(throttle._waiting.values())).times_ns) <= 64 * 4 + 10
    (batch,) = throttle.flush()
    assert max(batch.perplexity) == 1000.0


def test_thinning_keeps_lines_whole_and_in_order() -> None:
    """What stays is whole lines in the order of time."""
    batch = thin(make_scores([float(1 + i * 37 % 101) for i in range(100)]), 10)
    assert batch.times_ns == sorted(batch.times_ns)
    for time_ns, pdu, perplexity in zip(batch.times_ns, batch.pdus, batch.perplexity, strict=True):
        i = time_ns // MS
        assert (pdu, perplexity) == (f"P{i}", float(1 + i * 37 % 101))


def test_a_warming_score_hides_no_other() -> None:
    """A high score from a cold model does not push out a lower one that counts."""
    batch = thin(make_scores([900.0, 5.0, 800.0, 4.0], warming=[True, False, True, False]), 2)
    assert 5.0 in batch.perplexity
    assert 900.0 not in batch.perplexity
