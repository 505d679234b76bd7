"""A bus from which nothing comes since its capture began."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.detect.detector import ALL_EVIDENCE, Detector
from ecustream.events import Event
from ecustream.traffic import STATE_INIT
from tests.detect.scripts import MS, at, closes, every, names, ns, opens, pdu, scored, watching
from tests.detect.test_detector_properties import Fault, faults, traffic, watcher

A, B, C = pdu("A"), pdu("B", 100), pdu("C", source="ETH2")
BUS = "all of ETH1"


def begun(detector: Detector, *sources: str, ms: float = 0) -> Detector:
    """The same detector, told that the capture of these buses began."""
    for source in sources or ("ETH1",):
        assert detector.began(source, ns(ms)) == []
    return detector


@pytest.mark.parametrize(
    ("pause_ms", "told_ms", "words"),
    [(10, 2000, "2.00 s"), (660, 2000, "2.00 s"), (700, 2100, "2.10 s"), (5000, 15_000, "15.00 s")],
)
def test_bus_that_is_silent_from_the_start_is_told(pause_ms: float, told_ms: float, words: str) -> None:
    """After three times its longest learned pause, and at least after two seconds; once, as the whole bus."""
    detector = begun(watching(A, B, pause_ms=pause_ms))
    assert detector.advance(ns(told_ms)) == []
    (event,) = detector.advance(ns(told_ms) + 1)
    assert (event.kind, event.evidence, event.source, names(event)) == ("silence", "missing", "ETH1", {BUS})
    assert (event.start_ns, event.decided_ns, event.frames) == (ns(0), ns(told_ms), None)
    assert event.reason.startswith(
        f"nothing came from ETH1 since the capture began {words} ago, the longest "
    )
    assert detector.advance(ns(3_600_000)) == []


def test_first_line_ends_a_silence_from_the_start() -> None:
    """As that of a silence of the bus; from then on its PDUs are expected as in any run."""
    detector = begun(watching(A, B, pause_ms=10, join_ms=100))
    events = detector.advance(ns(3000))
    assert [event.phase for event in events] == ["open"]
    events = detector.step(scored(every(10, 5000, 7000)))
    close, missing = closes(events)[0], opens(events)
    assert (close.id, close.kind, close.start_ns, close.end_ns) == ("1", "silence", ns(0), ns(5000))
    assert close.reason.startswith(
        "nothing came from ETH1 since the capture began for 5.00 s, until 22:13:25.000 UTC, the longest pause"
    )
    assert [(event.kind, names(event)) for event in missing] == [("silence", {"B"})]
    assert missing[0].decided_ns > ns(5000)
    assert "has never come in this run" in missing[0].reason


def test_silence_from_the_start_lasts_until_the_end() -> None:
    """Where nothing ever comes, it ends with the capture and says so."""
    detector = begun(watching(A, pause_ms=10))
    detector.advance(ns(9000))
    (close,) = detector.finish()
    assert (close.phase, close.start_ns, close.end_ns) == ("close", ns(0), ns(9000))
    assert close.reason.endswith("; still so at the end")


def test_bus_that_is_not_known_is_not_expected() -> None:
    """Of a bus that training never saw nothing is expected, nor where deadlines are not used."""
    detector = begun(watching(A), "ETH9")
    assert detector.advance(ns(3_600_000)) == []
    detector = begun(watching(A, evidence=ALL_EVIDENCE - {"deadline"}))
    assert detector.advance(ns(3_600_000)) == []


def test_buses_begin_each_for_itself() -> None:
    """What comes on one bus is no line of another."""
    detector = begun(watching(A, C, pause_ms=10), "ETH1", "ETH2")
    events = detector.step(scored(every(10, 500, 4000)))
    assert [(event.source, event.phase, event.decided_ns) for event in events] == [("ETH2", "open", ns(2000))]


def test_lines_of_another_bus_let_its_time_pass() -> None:
    """It begins when nothing else is due for long; the next line of any bus after two seconds tells it."""
    detector = watching(A, pause_ms=10)
    lines = scored(every(100, 0, 9000, pdu="X", source="ETH9"))
    detector.step([score for score in lines if score.line.time_ns <= ns(3000)])
    begun(detector, ms=3000)
    (event,) = detector.step([score for score in lines if score.line.time_ns > ns(3000)])
    assert (event.source, event.decided_ns) == ("ETH1", ns(5000))


def test_bus_that_was_heard_does_not_begin_again() -> None:
    """Said of a bus that was heard or that was waited for already, it changes nothing."""
    detector = watching(A, pause_ms=1000)
    detector.step(scored(every(10, 0, 100)))
    events = begun(detector, ms=95).step(scored(every(10, 100, 3000)))
    assert events == []
    detector = begun(begun(watching(A, pause_ms=10)), ms=1500)
    assert [event.decided_ns for event in detector.advance(ns(5000))] == [ns(2000)]


def test_what_is_due_before_a_bus_begins_is_told_then() -> None:
    """Where one bus begins later than others were captured, time passes up to it."""
    detector = watching(A, C, pause_ms=10_000)
    detector.step(scored(every(10, 0, 100)))
    (missing,) = detector.began("ETH2", ns(5000))
    assert names(missing) == {"A"}


def test_gap_before_the_first_line_begins_again() -> None:
    """It is waited for anew from the gap on, and of no single PDU it is said that it is missing."""
    detector = begun(watching(A, B, pause_ms=10))
    assert len(detector.advance(ns(3000))) == 1
    events = detector.gap(ns(4000), "ETH1", "the interface went down")
    assert [(event.kind, event.phase) for event in events] == [
        ("silence", "close"),
        ("capture_gap", "open"),
        ("capture_gap", "close"),
    ]
    assert events[0].end_ns == ns(3000)
    assert events[0].reason.endswith("; still so at the gap in the capture")
    (again,) = detector.advance(ns(30_000))
    assert (names(again), again.start_ns, again.decided_ns) == ({BUS}, ns(4000), ns(6000))
    assert again.reason.startswith("nothing came from ETH1 since the gap in the capture 2.00 s ago")


def test_gap_that_sets_the_clock_back_before_the_first_line() -> None:
    """Two seconds are counted by the new clock."""
    detector = begun(watching(A, pause_ms=10), ms=3_600_000)
    detector.gap(ns(0), "ETH1", "the clock was set back")
    assert [event.decided_ns for event in detector.advance(ns(10_000))] == [ns(2000)]


def test_first_line_may_be_of_a_pdu_that_is_not_known_or_of_a_start_up() -> None:
    """Any line ends the silence of its bus."""
    for script in at(5000, pdu="X"), at(5000, state=STATE_INIT):
        detector = begun(watching(A, pause_ms=10, join_ms=10))
        events = detector.advance(ns(4000)) + detector.step(scored(script)) + detector.advance(ns(5015))
        assert [e.phase for e in events if e.kind == "silence"] == ["open", "close"]


def test_nothing_needs_a_line() -> None:
    """Time, a gap and the end may come before any line, with or without a beginning."""
    for detector in watching(A), begun(watching(A)):
        assert detector.advance(ns(10)) == []
        assert {event.kind for event in detector.gap(ns(20), "ETH1", "lost")} == {"capture_gap"}
        assert detector.advance(ns(30)) == []
        assert detector.finish() == []
    assert begun(watching(A)).finish() == []


@settings(max_examples=60, deadline=None)
@given(faults, st.floats(0, 1999), st.lists(st.floats(0, 1), max_size=3))
def test_beginning_changes_nothing_where_a_line_comes_in_time(
    of: list[Fault], before_ms: float, pauses: Sequence[float]
) -> None:
    """A live capture, which begins before its first line, tells what a trace of the same traffic tells."""
    scores = traffic(of)
    plain, live = watcher(), watcher()
    heard_ns: dict[str, int] = {}
    newest_ns = 0
    for score in scores:
        newest_ns = max(newest_ns, score.line.time_ns)
        heard_ns.setdefault(score.line.stream.source, newest_ns)
    first_ns = min(heard_ns.values())
    start_ns = first_ns - round(before_ms * MS)
    events: list[Event] = []
    # The other bus may have its first line too late for that.
    for source in sorted(heard_ns):
        if heard_ns[source] - start_ns < 2000 * MS:
            events += live.began(source, start_ns)
    for pause in sorted(pauses):
        events += live.advance(start_ns + round(pause * (first_ns - start_ns)))
    events += live.step(scores) + live.finish()
    assert events == plain.step(scores) + plain.finish()
