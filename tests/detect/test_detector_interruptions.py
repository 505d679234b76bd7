"""What the detector says of buses that fall silent, gaps in the capture, start-up and the end."""

import pytest

from ecustream.detect.detector import Thresholds
from ecustream.traffic import STATE_INIT
from tests.detect.scripts import MS, Came, at, closes, every, feed, names, ns, opens, pdu, scored, watching

A, B, SLOW = pdu("A"), pdu("B", 100), pdu("S", 1000)
SPORADIC = pdu("E", 0, one_ms=(0, 0), two_ms=(0, 0))
BUS = "all of ETH1"


def test_bus_that_carries_nothing_is_reported_as_a_whole() -> None:
    """Where no PDU has a deadline the bus itself has one: three times its longest pause."""
    (event,) = feed(watching(SPORADIC, pause_ms=200), at(0, 50, 90, pdu="E"), until_ms=5000)
    assert (event.kind, event.evidence, names(event)) == ("silence", "missing", {BUS})
    assert (event.start_ns, event.decided_ns) == (ns(90), ns(690))
    assert "nothing at all came on ETH1 for 600.0 ms" in event.reason


def test_silence_of_a_bus_closes_when_traffic_resumes() -> None:
    """The first line of any PDU ends the silence of its bus; the next silence is another one."""
    detector = watching(SPORADIC, pause_ms=200)
    script = [*at(0, 90, pdu="E"), *every(100, 5000, 6500, pdu="E")]
    events = feed(detector, script, until_ms=9000)
    first, second = opens(events)
    (close,) = closes(events)
    assert close.id == first.id
    assert ns(5000) < close.decided_ns < ns(6100)
    assert "still so" not in close.reason
    assert second.start_ns == ns(6400)


def test_silent_bus_with_fast_pdus_is_one_episode_that_names_the_bus() -> None:
    """PDUs that are overdue before the bus is belong to the same episode."""
    events = feed(
        watching(A, B, pause_ms=10),
        every(10, 0, 1000),
        every(100, 0, 1000, pdu="B"),
        every(10, 2000, 3500),
        every(100, 2000, 3500, pdu="B"),
        finish=True,
    )
    assert [event.kind for event in opens(events)] == ["silence"]
    (close,) = closes(events)
    assert names(close) == {"A", "B", BUS}
    assert close.decided_ns < ns(3000)


def test_dashboards_are_told_within_the_update_interval_that_the_bus_is_silent() -> None:
    """The silence of a bus becomes known while it lasts, not when traffic resumes."""
    events = feed(watching(A, pause_ms=10), every(10, 0, 1000), until_ms=30_000)
    assert BUS in names(events[-1])


def test_silent_bus_with_slow_pdus_is_one_episode() -> None:
    """PDUs whose deadline passes while their bus is silent add no episode, they are part of its silence."""
    events = feed(
        watching(A, SLOW, pause_ms=10), every(10, 0, 2000), at(0, 1000, 1985, pdu="S"), until_ms=60_000
    )
    assert len(opens(events)) == 1


def test_silence_of_a_bus_that_ended_says_until_when() -> None:
    """Also where PDUs were missing with it; while it lasts its words are those of what did not come."""
    script = [*at(0, 90, pdu="E"), *every(100, 5000, 7000, pdu="E")]
    (close,) = closes(feed(watching(SPORADIC, pause_ms=200), script))
    assert close.reason == (
        "nothing at all came on ETH1 for 4.91 s, until 22:13:25.000 UTC, "
        "the longest pause of clean traffic is 200.0 ms"
    )
    events = feed(watching(A, B, pause_ms=20), every(10, 0, 500), every(10, 900, 3000), finish=True)
    assert "all of ETH1" in names(events[-1])
    both = [*every(100, 0, 500, pdu="B"), *every(100, 900, 3000, pdu="B")]
    (close,) = closes(feed(watching(A, B, pause_ms=20), every(10, 0, 491), every(10, 900, 3000), both))
    assert close.reason.startswith("nothing at all came on ETH1 for 410.0 ms, until 22:13:20.900 UTC")


def test_silence_of_a_bus_ends_with_the_line_that_ends_it() -> None:
    """`end_ns` bounds the episode: a silence of five seconds lasts five seconds."""
    script = [*at(0, 90, pdu="E"), *every(100, 5000, 7000, pdu="E")]
    (close,) = closes(feed(watching(SPORADIC, pause_ms=200), script))
    assert close.end_ns == ns(5000)


def test_bus_that_was_never_learned_may_pause() -> None:
    """Of a bus that training never saw its unknown PDUs are told, and no pause of it is a silence."""
    events = feed(watching(), every(10, 0, 5000), every(1000, 0, 5000, pdu="X", source="ETH9"))
    assert {event.kind for event in events} == {"unknown_pdu"}


def test_findings_of_two_buses_are_never_one_episode() -> None:
    """Two buses that are disturbed at the same time have an episode each, under their own source."""
    events = feed(
        watching(A, pdu("C", 10, source="ETH2")),
        every(10, 0, 2000),
        at(503),
        every(10, 0, 2000, pdu="C", source="ETH2"),
        at(503, pdu="C", source="ETH2"),
    )
    assert [(event.source, names(event)) for event in opens(events)] == [("ETH1", {"A"}), ("ETH2", {"C"})]


def test_silences_of_two_buses_are_told_in_order_of_time() -> None:
    """The bus that fell silent first is told first, however late time is advanced."""
    detector = watching(SPORADIC, pdu("F", 0, one_ms=(0, 0), two_ms=(0, 0), source="ETH2"), pause_ms=200)
    events = feed(detector, at(0, 100, pdu="E"), at(0, 90, pdu="F", source="ETH2"), until_ms=3000)
    assert [event.decided_ns for event in events] == [ns(690), ns(700)]


def test_gap_forgets_history_and_judges_nothing_across_it() -> None:
    """A gap closes what was open and is told as an event; the intervals that it cut are not judged."""
    detector = watching(A, B)
    lines = scored(every(10, 0, 500), at(43), every(10, 13_003, 14_000), every(100, 0, 14_000, pdu="B"))
    before = [score for score in lines if score.line.time_ns < ns(500)]
    after = [score for score in lines if score.line.time_ns >= ns(13_003)]
    events = detector.step(before)
    events += detector.gap(after[0].line.time_ns, "ETH1", "12 lines were overwritten")
    assert [(event.kind, event.phase) for event in events] == [
        ("anomaly", "open"),
        ("anomaly", "close"),
        ("capture_gap", "open"),
        ("capture_gap", "close"),
    ]
    gap = events[-1]
    assert (gap.start_ns, gap.end_ns) == (before[-1].line.time_ns, ns(13_003))
    assert gap.reason == "12 lines were overwritten"
    assert detector.step(after) == []
    assert detector.finish() == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(at(0, 10, 18.25), at(28.25, 38.25, 46.5), id="interval"),
        pytest.param([*at(0, 10), *at(20, delta_nats=9)], at(30, delta_nats=9), id="model"),
    ],
)
def test_evidence_does_not_add_up_across_a_gap(before: list[Came], after: list[Came]) -> None:
    """A weak line on either side of a gap opens nothing, though the two would without the gap."""
    assert len(opens(feed(watching(), before, after))) == 1
    detector = watching()
    lines = scored(before, after)
    events = detector.step(lines[: len(before)]) + detector.gap(ns(25), "ETH1", "lost")
    events += detector.step(lines[len(before) :])
    assert {event.kind for event in events} == {"capture_gap"}


def test_gap_does_not_forget_which_pdus_were_told_as_unknown() -> None:
    """An unknown PDU is told once a run, also when it comes again after a gap."""
    detector = watching()
    lines = scored(at(0, 10), at(5, 3005, pdu="X"), every(10, 3010, 3100))
    feed_before = detector.step(lines[:3])
    detector.gap(ns(3000), "ETH1", "lost")
    assert [event.kind for event in feed_before] == ["unknown_pdu"]
    assert detector.step(lines[3:]) == []


def test_gap_may_set_the_clock_back() -> None:
    """After a gap time counts from the gap on, also if the capture clock was set back by an hour."""
    detector = watching()
    hour_ms = 3_600_000
    assert feed(detector, every(10, hour_ms, hour_ms + 500)) == []
    detector.gap(ns(0), "ETH1", "the capture clock went back by 3600.5 s")
    events = detector.step(scored(every(10, 0, 500), at(520)))
    assert [(event.kind, event.decided_ns) for event in events] == [("silence", ns(502))]


def test_pdu_that_does_not_return_after_a_gap_is_missing() -> None:
    """A known PDU that stays away after a gap is reported like one that never came since the start."""
    detector = watching(A, B)
    lines = scored(every(10, 0, 5000), every(100, 0, 400, pdu="B"))
    before = [score for score in lines if score.line.time_ns < ns(400)]
    detector.step(before)
    detector.gap(ns(400), "ETH1", "lost")
    assert [names(event) for event in opens(detector.step(lines[len(before) :]))] == [{"B"}]


def test_pdus_may_come_one_after_another_before_initialization() -> None:
    """In a start-up no PDU is missed while the vehicle is not initialized."""
    events = feed(
        watching(A, B),
        every(10, 0, 3000, state=STATE_INIT),
        every(100, 2000, 3000, pdu="B", state=STATE_INIT),
    )
    assert events == []


def test_return_to_not_initialized_ends_what_was_missing() -> None:
    """A silence is over when nothing is expected any more, and does not last until the end."""
    slow = [*every(100, 0, 500, pdu="B"), *every(100, 500, 3000, pdu="B", state=STATE_INIT)]
    events = feed(watching(A, B), every(10, 0, 300), slow)
    assert [(event.kind, names(event)) for event in closes(events)] == [("silence", {"A"})]


def test_return_to_not_initialized_leaves_no_deadline_behind() -> None:
    """A deadline that was set in normal operation does not report a PDU that goes on coming."""
    events = feed(
        watching(), every(10, 0, 500), every(10, 500, 1000, state=STATE_INIT), every(10, 1000, 1500)
    )
    assert events == []


def test_silence_is_one_episode_for_every_threshold() -> None:
    """Whether (t + drift) - drift rounds to t does not decide if a late arrival joins its silence."""
    for nats in (12.0, 12.471939978137046):
        detector = watching(A, B, thresholds=Thresholds(nats, 8.0))
        events = feed(
            detector, every(10, 0, 100), every(10, 3000, 6000), every(100, 0, 6000, pdu="B"), finish=True
        )
        assert [(event.id, event.kind) for event in closes(events)] == [("1", "silence")]


def test_pdu_that_returns_and_vanishes_at_once_is_silent_until_it_comes() -> None:
    """A silence that begins again within the join window does not expire with the first one's arrival."""
    events = feed(
        watching(A, B),
        every(10, 0, 100),
        every(10, 130, 180),
        every(10, 20_000, 21_000),
        every(100, 0, 21_000, pdu="B"),
        finish=True,
    )
    assert len(opens(events)) == 1


def test_end_closes_everything_and_says_what_is_still_so() -> None:
    """What was over before the end closes with its reason, what was not says that it is still so."""
    events = feed(
        watching(A, B, join_ms=2000),
        every(10, 0, 400),
        every(100, 0, 1000, pdu="B"),
        at(143, pdu="B"),
        finish=True,
    )
    over, still = sorted(closes(events), key=lambda event: "still so at the end" in event.reason)
    assert (names(over), names(still)) == ({"B"}, {"A"})
    assert still.reason.endswith("; still so at the end")
    assert "still so" not in over.reason
    assert {event.decided_ns for event in (over, still)} == {ns(900)}


def test_silence_that_lasts_until_the_end_ends_with_the_traffic() -> None:
    """A PDU that is still missing at the end was silent until the end."""
    (close,) = closes(
        feed(watching(A, B), every(10, 0, 500), every(100, 0, 5000, pdu="B"), until_ms=5000, finish=True)
    )
    assert close.end_ns == ns(5000)


def test_pdu_that_is_missing_after_a_start_up_is_not_told_with_a_gap() -> None:
    """Where the vehicle was not initialized in between there was no gap in the capture."""
    events = feed(
        watching(A, B),
        every(10, 0, 500),
        every(100, 0, 500, pdu="B"),
        every(10, 500, 1000, state=STATE_INIT),
        every(10, 1000, 2000),
    )
    assert [names(event) for event in opens(events)] == [{"B"}]
    assert "gap in the capture" not in events[0].reason


def test_pdu_that_comes_late_for_the_first_time_is_told_so() -> None:
    """It had no last occurrence to count from."""
    events = feed(watching(A, B), every(10, 0, 3000), every(100, 1000, 3000, pdu="B"))
    (close,) = closes(events)
    assert close.reason.startswith("B came for the first time in this run at 22:13:21.000 UTC, expected")
    assert (close.kind, close.end_ns) == ("silence", ns(1000))


def test_end_of_nothing_is_nothing() -> None:
    """A detector that saw no line, or was ended already, has nothing to close."""
    assert watching().finish() == []
    detector = watching()
    feed(detector, at(0, 10, 20, 26), finish=True)
    assert detector.finish() == []


def test_pdu_that_comes_once_is_missed_by_its_own_deadline() -> None:
    """It is told with the next line of the bus, though the PDU was not expected so soon before it came."""
    events = feed(watching(), every(1, 0, 15, pdu="X"), at(1.5))
    (silence,) = [event for event in opens(events) if event.kind == "silence"]
    assert (names(silence), silence.decided_ns) == ({"A"}, ns(13.5))


def test_finding_of_a_pdu_that_stays_away_closes_where_nothing_has_a_deadline() -> None:
    """An episode that opens is told closed in time by other lines, however calm it was before."""
    known = watching(SPORADIC, pause_ms=1e6, evidence=frozenset({"name"}))
    strange = at(1000, 1010, pdu="E", name_nats=20.0)
    events = feed(known, at(0, pdu="E"), strange, every(100, 50, 9000, pdu="X"))
    (close,) = [event for event in closes(events) if names(event) == {"E"}]
    assert close.decided_ns < ns(7000)


def test_bus_that_is_silent_before_and_after_a_gap_is_told_twice() -> None:
    """Its pause counts anew from the gap, also where nothing is expected of any PDU yet."""
    detector = watching(SPORADIC, pause_ms=20)
    other = every(10, 0, 400, pdu="X", source="ETH2", state=STATE_INIT)
    scores = scored(at(0, pdu="E", state=STATE_INIT), other)
    events = detector.step([score for score in scores if score.line.time_ns < ns(300)])
    events += detector.gap(ns(300), "ETH2", "lost")
    events += detector.step([score for score in scores if score.line.time_ns >= ns(300)])
    assert [e.decided_ns for e in opens(events) if e.kind == "silence"] == [ns(70), ns(370)]


def test_what_is_due_at_the_very_time_of_a_line_is_told_with_it() -> None:
    """Not one line later, as if that time had not been reached."""
    detector = watching(SPORADIC, pause_ms=1e6, evidence=frozenset({"name"}))
    events = feed(detector, at(0, pdu="E"), at(1000, 1010, pdu="E", name_nats=20.0))
    while not closes(events):
        due_ns = detector.episodes.due_ns
        assert due_ns is not None
        due_ms = (due_ns - ns(0)) / MS
        early, on_time = scored(at(due_ms - 1, due_ms, pdu="E"))
        assert detector.step([early]) == []
        events = detector.step([on_time])
        assert events
        assert events[0].decided_ns == on_time.line.time_ns == due_ns


@pytest.mark.parametrize(("join_ms", "lines"), [(0, 2), (1, 1)])
def test_line_that_ends_an_outage_is_an_echo_while_it_may_be_joined(join_ms: float, lines: int) -> None:
    """The model's surprise at it counts only where nothing is joined: then the next one adds to it."""
    script = [*every(10, 0, 101), *at(150, delta_nats=20.0), *at(160, delta_nats=4.5)]
    events = feed(watching(join_ms=join_ms), script, every(10, 170, 300), finish=True)
    assert [event.lines for event in closes(events) if "A" in names(event)] == [lines]


def test_line_that_was_overtaken_comes_when_it_is_read() -> None:
    """Capture time never runs backwards: a PDU whose line follows a later one is late."""
    script = [*every(10, 0, 101), *at(113, pdu="X"), *every(10, 110, 200)]
    events = watching(evidence=frozenset({"interval"})).step(scored(script, in_order=False))
    (late,) = [event for event in opens(events) if event.kind == "anomaly"]
    assert (late.evidence, late.decided_ns) == ("late", ns(113))


@pytest.mark.parametrize("kind", ["delta", "name"])
def test_evidence_of_a_kind_that_is_not_used_counts_nothing(kind: str) -> None:
    """Of the model's two kinds each can be used alone."""
    script = [
        *every(10, 0, 101),
        *at(110, 120, delta_nats=20.0 if kind == "delta" else 1.0, name_nats=20.0 if kind == "name" else 1.0),
    ]
    for used in "delta", "name":
        assert bool(feed(watching(evidence=frozenset({used})), script)) == (used == kind)
