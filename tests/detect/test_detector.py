"""What the detector says of late, early, extra and missing messages, as scripts of who came when.

A comes every 10 ms within 1 ms and is overdue 12 ms after its last line; B every 100 ms, overdue after 120.
"""

import pytest

from ecustream.traffic import STATE_INIT
from tests.detect.scripts import Came, at, closes, every, feed, names, ns, opens, pdu, scored, watching

A, B = pdu("A"), pdu("B", 100)
JITTERY = pdu("J", 100, one_ms=(50, 150), two_ms=(140, 260))


def test_clean_traffic_gives_no_event() -> None:
    """Lines within their bounds bring about nothing, and neither does the end of the traffic."""
    assert feed(watching(A, B), every(10, 0, 1000), every(100, 0, 1000, pdu="B"), finish=True) == []


def test_late_message_is_reported_at_its_deadline_and_not_when_it_comes() -> None:
    """The silence is decided at the deadline although the next line of any PDU comes long after it."""
    (event,) = feed(watching(), at(0, 10, 20, 55))
    assert (event.kind, event.phase, event.evidence) == ("silence", "open", "missing")
    assert event.decided_ns == ns(32)
    assert event.start_ns == ns(30)
    assert [(p.name, p.lines, p.fields) for p in event.pdus] == [("A", 0, ["deltaTime"])]


def test_line_at_its_deadline_is_still_in_time() -> None:
    """A line that comes exactly at the deadline leaves nothing to report of a silence."""
    assert all(event.kind != "silence" for event in feed(watching(), at(0, 10, 20, 32, 42, 52)))


def test_deadline_passes_without_any_line() -> None:
    """Time alone brings about the silence, exactly once, and not before the deadline is over."""
    detector = watching()
    feed(detector, at(0, 10, 20))
    assert detector.advance(ns(32)) == []
    assert [event.decided_ns for event in detector.advance(ns(32.001))] == [ns(32)]
    assert detector.advance(ns(400)) == []


def test_late_arrival_belongs_to_the_episode_of_its_silence() -> None:
    """The message that comes after all is counted, and `frames` is from the last before it on."""
    events = feed(watching(), at(0, 10, 20, 55), every(10, 65, 1500), finish=True)
    assert {event.id for event in events} == {"1"}
    (close,) = closes(events)
    assert (close.kind, close.lines, close.frames) == ("silence", 1, (3, 4))
    assert (close.start_ns, close.end_ns) == (ns(30), ns(55))
    assert close.evidence == "late"
    assert close.reason.startswith(
        "A was silent for 35.0 ms and came again at 22:13:20.055 UTC, expected every"
    )


def test_arrival_after_minutes_belongs_to_the_episode_of_its_silence() -> None:
    """A silence does not expire: however late the message comes, it is the same episode."""
    events = feed(
        watching(A, B),
        every(10, 0, 100),
        every(100, 0, 63_000, pdu="B"),
        every(10, 60_000, 63_000),
        finish=True,
    )
    assert len(opens(events)) == 1
    (close,) = closes(events)
    assert (close.lines, close.end_ns) == (1, ns(60_000))
    assert close.decided_ns < ns(62_000)


def test_pdu_that_vanishes_is_one_silence_until_the_end() -> None:
    """A message that never comes again opens one silence, and the end of the traffic says so."""
    events = feed(watching(A, B), at(0, 10, 20), every(100, 0, 10_000, pdu="B"), finish=True)
    assert [event.phase for event in events] == ["open", "close"]
    assert events[0].decided_ns == ns(32)
    assert events[1].reason.endswith("still so at the end")


def test_vanished_pdu_does_not_swallow_later_findings() -> None:
    """What happens after the join window of a silence that lasts is an episode of its own."""
    events = feed(
        watching(A, B),
        at(0, 10, 20),
        every(100, 0, 2000, pdu="B"),
        at(1430, pdu="B"),
        every(100, 2000, 4000, pdu="B"),
        finish=True,
    )
    first, second = opens(events)
    assert (first.kind, names(first)) == ("silence", {"A"})
    assert (second.kind, names(second)) == ("anomaly", {"B"})
    assert [event.id for event in closes(events)] == [second.id, first.id]


@pytest.mark.parametrize(
    "disturbance", [at(0, 10, 20), [*every(10, 0, 500), *at(94)]], ids=["missing", "early"]
)
def test_echo_of_a_disturbance_in_the_model_is_no_finding(disturbance: list[Came]) -> None:
    """While a PDU is missing, or just after one came out of time, it alone is conspicuous."""
    others = [*every(100, 0, 500, pdu="B", without=[100]), *at(100, pdu="B", delta_nats=30, name_nats=30)]
    (close,) = closes(feed(watching(A, B), disturbance, others, finish=True))
    assert names(close) == {"A"}


@pytest.mark.parametrize(
    "strange",
    [
        pytest.param(at(60_000, pdu="B", delta_nats=30), id="delta"),
        pytest.param(
            at(60_000, pdu="B", name_nats=30),
            id="name",
        ),
    ],
)
def test_vanished_pdu_does_not_silence_the_model(strange: list[Came]) -> None:
    """Long after a PDU vanished for good a line that the model finds strange is still found."""
    events = feed(watching(A, B), at(0, 10, 20), every(100, 0, 60_000, pdu="B"), strange)
    assert [names(event) for event in opens(events)] == [{"A"}, {"B"}]


def test_pdu_that_comes_on_another_bus_than_in_training_is_watched_there() -> None:
    """Where the key is the name alone a PDU may come from a bus that training did not see."""
    events = feed(watching(), at(0, 10, 20, source="ETH9"), until_ms=40)
    assert [(event.kind, event.source, names(event)) for event in events] == [("silence", "ETH9", {"A"})]


def test_pdu_that_never_came_since_the_start() -> None:
    """A known cyclic PDU that is absent from the first line on is reported within a few of its cycles."""
    events = feed(watching(A, B), every(10, 0, 1000))
    (event,) = events
    assert (event.kind, names(event)) == ("silence", {"B"})
    assert ns(110) < event.decided_ns <= ns(400)
    assert "never come in this run" in event.reason


def test_pdu_that_is_not_cyclic_may_stay_away() -> None:
    """A PDU without a cycle is neither late, nor early, nor missing."""
    event_pdu = pdu("E", 0, one_ms=(0, 0), two_ms=(0, 0))
    assert feed(watching(A, event_pdu), every(10, 0, 900), at(100, 101, 800, pdu="E"), finish=True) == []
    assert feed(watching(A, event_pdu), every(10, 0, 900), finish=True) == []


def test_early_message() -> None:
    """A message that comes too early is told with its own line."""
    event = feed(watching(), at(0, 10, 20, 26))[0]
    assert (event.kind, event.evidence, event.lines, event.frames) == ("anomaly", "early", 1, (4, 4))
    assert event.start_ns == event.decided_ns == ns(26)


def test_same_message_twice_at_once() -> None:
    """A message that is sent twice within the same microsecond is one early line, and no more."""
    events = feed(watching(), at(0, 10, 20, 20.001), every(10, 30, 2000), finish=True)
    assert [event.evidence for event in opens(events)] == ["early"]
    assert closes(events)[0].lines == 1


def test_extra_message_in_the_middle_of_a_jittery_interval_is_found_by_two_intervals() -> None:
    """Both halves of the interval are plausible; the two intervals that follow span one cycle too few."""
    events = feed(watching(JITTERY), at(0, 100, 200, 250, 300, 400, 500, 600, pdu="J"), until_ms=620)
    (event,) = events
    assert (event.evidence, event.decided_ns) == ("early", ns(300))
    assert "a third time within 100.0 ms" in event.reason


@pytest.mark.parametrize(
    ("times_ms", "evidence"),
    [
        pytest.param((0, 10, 20, 37, 40), "missing", id="delayed, raster kept"),
        pytest.param((0, 10, 20, 37, 47), "missing", id="delayed, raster moved"),
        pytest.param((0, 10, 20, 23, 30), "early", id="extra"),
        pytest.param((0, 10, 20, 40), "missing", id="one missing"),
        pytest.param((0, 10, 20, 50), "missing", id="two missing"),
        pytest.param(
            (0, 10, 20, 27, 40),
            "early",
            id="early, raster kept",
        ),
    ],
)
def test_a_disturbance_is_one_episode_and_its_echo_adds_none(
    times_ms: tuple[float, ...], evidence: str
) -> None:
    """The intervals after an odd line that only restore the raster bring about nothing more."""
    rest = every(10, times_ms[-1] + 10, 3000)
    events = feed(watching(join_ms=1), at(*times_ms), rest, finish=True)
    (event,) = opens(events)
    assert event.evidence == evidence
    (close,) = closes(events)
    assert close.lines == 1


def test_two_pdus_at_once_are_one_episode() -> None:
    """Two PDUs that fall silent together are one episode, with both of them at its end."""
    events = feed(
        watching(A, pdu("C", 20)),
        at(0, 10, 20),
        every(10, 60, 2000),
        at(0, 20, pdu="C"),
        every(20, 60, 2000, pdu="C"),
        finish=True,
    )
    assert len(opens(events)) == 1
    (close,) = closes(events)
    assert {p.name: p.lines for p in close.pdus} == {"A": 1, "C": 1}
    assert close.lines == 2


def test_two_faults_far_apart_are_two_episodes() -> None:
    """Faults of one PDU with more than the join window between them are not one."""
    events = feed(watching(), every(10, 0, 3000), at(503, 1503), finish=True)
    assert [event.start_ns for event in opens(events)] == [ns(503), ns(1503)]
    assert [event.id for event in closes(events)] == ["1", "2"]


def test_two_faults_near_to_each_other_are_one_episode() -> None:
    """Faults of one PDU within the join window are one episode with both lines."""
    events = feed(watching(), every(10, 0, 3000), at(503, 803), finish=True)
    assert len(opens(events)) == 1
    assert closes(events)[0].lines == 2


def test_strange_delta_of_a_plausible_interval_is_found_by_the_model() -> None:
    """A line whose interval is within bounds opens an episode if the model finds it strange enough."""
    events = feed(watching(), every(10, 0, 100), at(100, delta_nats=20), every(10, 110, 1000), finish=True)
    (event,) = opens(events)
    assert (event.kind, event.evidence, event.decided_ns) == ("anomaly", "late", ns(100))
    assert event.score.surprisal == pytest.approx(21)
    assert event.score.evidence > event.score.threshold == 8.0


def test_strange_name_is_a_fault_of_order() -> None:
    """A line that the model did not expect at this place is told as such, under the field's name."""
    event = feed(watching(), every(10, 0, 100), at(100, name_nats=20))[0]
    assert (event.evidence, event.pdus[0].fields) == ("order", ["pduName"])


def test_scores_of_a_model_that_is_warming_up_are_no_evidence() -> None:
    """Surprisal counts for nothing while the receptive field is not full, intervals count all the same."""
    script = [*at(0, 10, 20, delta_nats=40, warming=True), *at(26, warming=True)]
    (event,) = feed(watching(), script)
    assert (event.decided_ns, event.score.perplexity) == (ns(26), None)


def test_lines_before_initialization_are_not_judged_by_their_intervals() -> None:
    """While the vehicle is not initialized a PDU may come as it likes, and its history begins afterwards."""
    detector = watching(evidence=frozenset({"interval", "delta", "name"}))
    wild = at(0, 3, 50, 51, 52, 400, 401, state=STATE_INIT)
    assert feed(detector, wild, every(10, 411, 800), finish=True) == []


def test_lines_before_initialization_are_judged_by_the_model() -> None:
    """The model knows the state; what it finds strange counts in every state."""
    event = feed(watching(), at(0, state=STATE_INIT), at(10, delta_nats=30, state=STATE_INIT))[0]
    assert (event.kind, event.decided_ns) == ("anomaly", ns(10))


def test_unknown_pdu_is_told_once() -> None:
    """A PDU that training never saw is reported at its first line, and never again."""
    events = feed(watching(), every(10, 0, 5000), every(700, 5, 5000, pdu="X"), finish=True)
    assert [event.kind for event in events] == ["unknown_pdu", "unknown_pdu"]
    assert [event.phase for event in events] == ["open", "close"]
    assert events[0].decided_ns == ns(5)
    assert (events[0].evidence, names(events[0])) == ("unknown", {"X"})


def test_unknown_pdus_of_one_join_window_are_one_event() -> None:
    """Ten unknown PDUs within the window are one event with ten names, one after it another event."""
    crowd = [line for i in range(10) for line in at(100 + i, pdu=f"X{i}")]
    events = feed(watching(), every(10, 0, 5000), crowd, at(3005, pdu="Y"), finish=True)
    assert {event.kind for event in events} == {"unknown_pdu"}
    assert len(opens(events)) == 2
    first, second = closes(events)
    assert names(first) == {f"X{i}" for i in range(10)}
    assert (first.lines, names(second)) == (10, {"Y"})


def test_unknown_pdu_does_not_join_an_anomaly() -> None:
    """An unknown PDU next to an early message is an event of its own kind."""
    events = feed(watching(), every(10, 0, 100), at(43), at(44, pdu="X"))
    assert [event.kind for event in opens(events)] == ["anomaly", "unknown_pdu"]


def test_time_that_goes_back_a_little_raises_nothing_and_moves_no_deadline_forward() -> None:
    """Lines that overtook each other are judged at the newest time seen, and no silence is told too soon."""
    script = [*at(0, 10, 20), *at(24, pdu="B"), *at(19, pdu="B"), *at(21, pdu="B"), *at(30, 40)]
    detector = watching(A, pdu("B", 0, one_ms=(0, 0), two_ms=(0, 0)))
    assert detector.step(scored(script, in_order=False)) == []
    assert detector.advance(ns(52)) == []
    assert [event.decided_ns for event in detector.advance(ns(53))] == [ns(52)]


def test_advance_into_the_past_changes_nothing() -> None:
    """Time that was passed already has no deadlines left, and the next line is judged as ever."""
    detector = watching()
    feed(detector, at(0, 10, 20))
    assert detector.advance(ns(5)) == []
    assert detector.step(scored(at(0, 10, 20, 30))[3:]) == []
