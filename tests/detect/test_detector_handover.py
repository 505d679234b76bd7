"""One detector takes over from another: what is open is told under its ids, and ends under the old ones."""

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.detect.detector import Detector
from ecustream.detect.perplexity import PerplexityFilter
from ecustream.events import Event
from tests.detect.scripts import (
    MS,
    THRESHOLDS,
    at,
    calibration,
    every,
    feed,
    names,
    ns,
    opens,
    pdu,
    scored,
    watching,
)
from tests.detect.test_detector_properties import Fault, faults, traffic, watcher

A, B = pdu("A"), pdu("B", 100)
SWAP = "when another bundle took over"


def test_what_is_open_is_told_as_opened() -> None:
    """Each open episode once, as it is by then; what was over or what is yet to come is none of it."""
    detector = watching(A, B)
    lines = scored(every(10, 0, 500), at(143, pdu="B"), every(100, 0, 7000, pdu="B"), every(10, 5000, 7000))
    detector.step([score for score in lines if score.line.time_ns < ns(3000)])
    (event,) = detector.open_events(ns(3000))
    assert (event.phase, event.kind, names(event)) == ("open", "silence", {"A"})
    assert (event.start_ns, event.decided_ns, event.end_ns) == (ns(500), ns(3000), None)
    assert "A has not come for 12.0 ms" in event.reason
    events = detector.step([score for score in lines if score.line.time_ns >= ns(3000)])
    assert [(e.id, e.phase) for e in events] == [(event.id, "update"), (event.id, "close")]


def test_episode_that_waits_for_its_join_window_is_open() -> None:
    """It will be closed, so it must have been opened."""
    detector = watching(A)
    (event,) = opens(feed(detector, every(10, 0, 541), at(43)))
    assert [(e.id, e.phase) for e in detector.open_events(ns(541))] == [(event.id, "open")]
    assert [(e.id, e.phase) for e in detector.advance(ns(550))] == [(event.id, "close")]


def test_episode_that_is_over_by_then_is_not_opened() -> None:
    """Time passes up to the moment of the handover first."""
    detector = watching(A, B)
    feed(detector, every(10, 0, 500), every(100, 0, 2000, pdu="B"), at(43))
    assert {name for e in detector.open_events(ns(2000)) for name in names(e)} == {"A"}
    assert watching(A).open_events(ns(10)) == []
    calm = watching(A)
    feed(calm, every(10, 0, 500))
    assert calm.open_events(ns(500)) == []


def test_update_that_was_held_back_is_in_the_opening() -> None:
    """What was told with it is not told again a moment later."""
    detector = watching(A, B)
    feed(detector, every(10, 0, 500), every(100, 0, 500, pdu="B"))
    detector.advance(ns(620))
    (event,) = detector.open_events(ns(630))
    assert names(event) == {"A", "B"}
    assert detector.advance(ns(900)) == []


def test_handover_goes_on_where_the_old_one_was() -> None:
    """What was due since the last line is open at once, and not first said to be so a moment later."""
    old, new = watching(A, pause_ms=100), watching(A, pause_ms=100)
    lines = scored(every(10, 0, 500))
    old.step(lines)
    old.advance(ns(9000))
    new.step(lines[-20:])
    assert old.now_ns == ns(9000)
    (event,) = new.open_events(old.now_ns)
    assert (event.decided_ns, event.start_ns) == (ns(9000), ns(490))
    assert names(event) == {"A", "all of ETH1"}
    assert new.now_ns == ns(9000)


def test_pdu_that_the_recent_lines_do_not_have_is_missed_in_words_of_the_handover() -> None:
    """It may have come in this run before, and of the bus something may have come before."""
    known = calibration(A, B)
    new = Detector(known, THRESHOLDS, since="in the lines that the new bundle read again")
    new.step(scored(every(10, 0, 500)))
    (event,) = new.open_events(ns(500))
    assert "B has never come in the lines that the new bundle read again, expected" in event.reason
    new = Detector(known, THRESHOLDS)
    new.began("ETH1", ns(0), "since another bundle took over")
    (event,) = new.open_events(ns(9000))
    assert event.reason.startswith("nothing came from ETH1 since another bundle took over 3.00 s ago")


def test_old_detector_ends_in_words_of_the_handover() -> None:
    """Its open episodes close; the words do not say that the traffic ended."""
    old = watching(A, B)
    feed(old, every(10, 0, 500), every(100, 0, 3000, pdu="B"))
    (close,) = old.finish(SWAP)
    assert (close.phase, close.end_ns) == ("close", ns(2900))
    assert close.reason.endswith("; still so when another bundle took over")
    assert "at the end" not in close.reason


def test_gap_does_not_say_that_the_traffic_ended() -> None:
    """What a gap closes was still so at the gap."""
    detector = watching(A, B)
    feed(detector, every(10, 0, 500), every(100, 0, 3000, pdu="B"))
    close = detector.gap(ns(4000), "ETH1", "lost")[0]
    assert close.reason.endswith("; still so at the gap in the capture")


def test_perplexity_filter_hands_over_alike() -> None:
    """With the same methods and words."""
    high = [c for ms in range(0, 100, 10) for c in at(ms, delta_nats=9.0)]
    old, new = (PerplexityFilter(2.0, 3, 200 * MS) for _ in range(2))
    feed(old, high)
    feed(new, high)
    (close,) = old.finish(SWAP)
    assert close.reason.endswith("; still so when another bundle took over")
    assert old.now_ns == ns(90)
    (event,) = new.open_events(ns(100))
    assert (event.phase, event.lines, event.start_ns) == ("open", 10, ns(0))
    assert new.began("ETH1", ns(100)) == []
    closing = new.gap(ns(200), "ETH1", "lost")[0]
    assert closing.reason.endswith("; still so at the gap in the capture")


@settings(max_examples=60, deadline=None)
@given(faults, st.floats(0, 1), st.floats(0, 1), st.floats(0, 400))
def test_handover_leaves_no_episode_without_an_end(
    of: list[Fault], since: float, where: float, later_ms: float
) -> None:
    """Under the new ids as under the old ones each episode opens once, is updated, and closes once.

    The new detector finds open what the old one has open, so far as the recent lines show it.
    """
    scores = traffic(of)
    cut = 1 + int(where * (len(scores) - 1))
    old, new = watcher(), watcher()
    begin = int(since * cut)
    before = old.step(scores[:cut])
    new.step(scores[begin:cut])
    now = max(score.line.time_ns for score in scores[:cut])
    if cut < len(scores):
        later = [score.line.time_ns for score in scores[cut:]]
        now = max(now, min(now + round(later_ms * MS), *later))
    before += old.advance(now)
    open_then = {e.id for e in before if e.phase == "open"} - {e.id for e in before if e.phase == "close"}
    before += old.finish(SWAP)
    opened = new.open_events(now)
    after = opened + new.step(scores[cut:]) + new.finish()
    if begin == 0:
        assert {event.id for event in opened} == open_then
    for events in before, after:
        told: dict[str, list[Event]] = defaultdict(list)
        for event in events:
            told[event.id].append(event)
        for of_one in told.values():
            assert [e.phase for e in of_one] == ["open", *["update"] * (len(of_one) - 2), "close"]
        assert [e.decided_ns for e in events] == sorted(e.decided_ns for e in events)
