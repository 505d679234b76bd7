"""The parts that compute: thinned scores, lines of episodes, thresholds in hindsight."""

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.baselines import threshold_spans
from training.evaluation.ahead import ahead
from training.evaluation.annotations import annotator_quality
from training.evaluation.candidates import Candidate, Episode, Running, told_lines
from training.evaluation.drawing import thinned
from training.evaluation.hindsight import MOST_CLEAN_EPISODES, best_rows, quiet_episodes
from training.evaluation.results import Drawing, TraceResult
from training.labels import Label
from training.metrics import Span


def test_episodes_are_told_when_they_were_decided() -> None:
    """Not when what they tell of began, nor when they ended; a gap of the capture is no episode."""

    def event(phase: str, number: str, decided_ns: int, kind: str = "anomaly", end: int | None = None) -> Any:
        pdus = [SimpleNamespace(name=number)]
        return SimpleNamespace(
            id=number, phase=phase, kind=kind, start_ns=1, end_ns=end, decided_ns=decided_ns, pdus=pdus
        )

    events = [
        event("open", "A", 5),
        event("open", "gap", 6, "capture_gap"),
        event("close", "gap", 6, "capture_gap"),
        event("open", "X", 7, "unknown_pdu"),
        event("close", "X", 9, "unknown_pdu", 8),
        event("close", "A", 9),
    ]
    machine: Any = SimpleNamespace(finish=lambda: events)
    assert Running(Candidate("stub", lambda: machine)).finish() == [
        Episode(Span(1, 8, 7), frozenset("X"), True),
        Episode(Span(1, 9, 5), frozenset("A"), False),
    ]


times_and_scores = st.lists(
    st.tuples(st.integers(0, 5_000), st.floats(0, 100, width=32)), min_size=1, max_size=60
).map(sorted)


@settings(deadline=None)
@given(times_and_scores, st.integers(1, 12), st.integers(0, 5))
def test_thinned_keeps_extremes(lines: list[tuple[int, float]], steps: int, dots: int) -> None:
    """Lowest and highest of each step of time are there, the highest of all, and not much more."""
    times, scores = np.array([t for t, _ in lines], np.int64), np.array([s for _, s in lines])
    kept = thinned(times, scores, steps, dots)
    assert sorted(set(kept.tolist())) == kept.tolist()
    assert len(kept) <= 2 * steps + dots
    length = max(int(times[-1] - times[0]), 1)
    in_step = [min(int(t - times[0]) * steps // length, steps - 1) for t in times]
    for step in set(in_step):
        own = [score for score, other in zip(scores, in_step, strict=True) if other == step]
        shown = [scores[i] for i in kept if in_step[i] == step]
        assert (min(own), max(own)) == (min(shown), max(shown))
    if dots:
        assert sorted(scores[kept])[-min(dots, len(lines)) :] == sorted(scores)[-min(dots, len(lines)) :]


spans = st.builds(lambda a, b: Span(min(a, b), max(a, b), a), st.integers(0, 50), st.integers(0, 50))
episodes = st.lists(
    st.builds(Episode, spans, st.frozensets(st.sampled_from("ABX")), st.booleans()), max_size=5
)


@settings(deadline=None)
@given(episodes, st.lists(st.tuples(st.integers(0, 50), st.sampled_from([0, 1, 2])), max_size=30).map(sorted))
def test_told_lines(told: list[Episode], lines: list[tuple[int, int]]) -> None:
    """Line by line: in an episode, both ends included, and of one of its PDUs."""
    names = ["A", "B", "A"]
    expected = [
        any(e.span.start_ns <= t <= e.span.end_ns and names[p] in e.pdus for e in told) for t, p in lines
    ]
    times, pdus = np.array([t for t, _ in lines], np.int64), np.array([p for _, p in lines], np.int32)
    assert told_lines(told, times, names, pdus).tolist() == expected


def result(name: str, quiet: dict[str, list[list[tuple[int, int, int]]]]) -> TraceResult:
    """A trace of which only its quiet episodes matter."""
    return TraceResult(
        name=name, path=name, sha256="", truth_sha256="", lines=1, first_ns=0, last_ns=1, set_aside=[],
        fitted_on=False, warming=0, seconds=0.0, pass_seconds=0.0, rows=[], drawing=Drawing("", "", [], []),
        quiet=quiet,
    )  # fmt: skip


@settings(deadline=None)
@given(st.lists(times_and_scores, min_size=1, max_size=3))
def test_hindsight_is_the_lowest_quiet_threshold(traces: list[list[tuple[int, float]]]) -> None:
    """No clean trace has more episodes than allowed at it, and one has at the next lower one of the grid."""
    arrays = [
        (np.array([t for t, _ in lines], np.int64), np.array([s for _, s in lines], np.float32))
        for lines in traces
    ]
    names = ("perplexity", "delta surprisal", "name surprisal")
    clean = [
        result(str(i), quiet_episodes(times, dict.fromkeys(names, scores), 100))
        for i, (times, scores) in enumerate(arrays)
    ]
    rows = best_rows(clean, {"faulty": (arrays[0][0], dict.fromkeys(names, arrays[0][1]))}, 100)
    title, column, told = rows[0]
    threshold = float(title.split()[2].rstrip(","))
    step = min(range(-7, 65), key=lambda i: abs(1.2**i - threshold))

    def counts(at: float) -> list[int]:
        return [len(threshold_spans(t, s.astype(np.float64), at, 1, 100)) for t, s in arrays]

    assert column == "perplexity"
    assert [len(told[str(i)].spans) for i in range(len(arrays))] == counts(1.2**step)
    assert max(counts(1.2**step)) <= MOST_CLEAN_EPISODES
    assert step == -7 or max(counts(1.2 ** (step - 1))) > MOST_CLEAN_EPISODES
    assert len(told["faulty"].spans) == counts(1.2**step)[0]


some_labels = st.lists(
    st.builds(
        lambda a, b, pdus: Label(min(a, b), max(a, b), "x", pdus),
        st.integers(0, 10).map(lambda tenths: tenths * 50_000_000),
        st.integers(0, 10).map(lambda tenths: tenths * 50_000_000),
        st.sampled_from([[], ["A"], ["B"], ["A", "B"]]),
    ),
    max_size=6,
)


@settings(deadline=None)
@given(some_labels, some_labels)
def test_annotator_quality(annotations: list[Label], faults: list[Label]) -> None:
    """Pair by pair: of one PDU, begun at most 100 ms after the fault's end, not over before its start."""

    def meet(annotation: Label, fault: Label) -> bool:
        one_pdu = not annotation.pdus or not fault.pdus or set(annotation.pdus) & set(fault.pdus)
        in_time = annotation.start_ns <= fault.end_ns + 100_000_000 and annotation.end_ns >= fault.start_ns
        return bool(one_pdu) and in_time

    quality = annotator_quality(annotations, faults)
    assert quality == (
        len(faults),
        sum(any(meet(a, f) for a in annotations) for f in faults),
        len(annotations),
        sum(any(meet(a, f) for f in faults) for a in annotations),
    )


class TestAhead:
    def test_same_items_in_order(self) -> None:
        """More of them than may wait."""
        assert list(ahead(iter(range(100)), depth=3)) == list(range(100))

    def test_error_comes_after_what_was_made(self) -> None:
        """And is the maker's own."""

        def maker() -> Iterator[int]:
            yield 1
            raise ValueError("mine")

        items = ahead(maker())
        assert next(items) == 1
        with pytest.raises(ValueError, match="mine"):
            next(items)

    def test_closed_early(self) -> None:
        """The maker is closed, and its thread has ended."""
        closed = []

        def maker() -> Iterator[int]:
            try:
                yield from range(1000)
            finally:
                closed.append(threading.current_thread().name)

        items = ahead(maker(), depth=2)
        assert next(items) == 0
        items.close()  # type: ignore[attr-defined]
        assert closed == ["ahead"]
        assert "ahead" not in [thread.name for thread in threading.enumerate()]
