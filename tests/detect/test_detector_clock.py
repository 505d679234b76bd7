"""What the detector tells where the clock of the capture is set, back or forth by as much as an hour."""

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.detect.detector import Detector
from ecustream.detect.perplexity import PerplexityFilter
from ecustream.events import Event
from ecustream.scores import LineScore
from ecustream.traffic import STATE_INIT, STATE_NORMAL, Line, Stream
from tests.detect.scripts import MS, at, every, names, ns, opens, pdu, scored, watching

HOUR_MS = 3_600_000.0
A, B = pdu("A"), pdu("B", 100)
STREAMS = [
    Stream(index, name, name, source, "10.0.0.1", 1, "239.0.0.1", 2)
    for index, (name, source) in enumerate([("A", "ETH1"), ("B", "ETH1"), ("C", "ETH2"), ("X", "ETH1")])
]

waits = st.one_of(st.floats(0, 30), st.floats(0, 3000), st.floats(-50, 0))
jumps = st.one_of(st.sampled_from([-HOUR_MS, HOUR_MS]), st.floats(-HOUR_MS, HOUR_MS), st.floats(-5, 5))
ops = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.integers(0, 3), st.integers(1, 20)),
        st.tuples(st.just("run"), st.integers(0, 3), st.integers(1, 20)),
        st.tuples(st.just("line"), st.integers(0, 3), waits),
        st.tuples(st.just("strange"), st.integers(0, 3), waits),
        st.tuples(st.just("init"), st.integers(0, 3), waits),
        st.tuples(st.just("advance"), st.integers(0, 3), waits),
        st.tuples(st.just("began"), st.integers(0, 3), waits),
        st.tuples(st.just("gap"), st.integers(0, 3), jumps),
    ),
    max_size=40,
)


def tell(machine: Detector | PerplexityFilter, of: list[tuple[str, int, float]]) -> list[list[Event]]:
    """The events between two gaps each, of a capture in which these things happen."""
    clock_ms, frame = HOUR_MS, 0
    told: list[list[Event]] = [[]]
    for what, which, much in of:
        stream = STREAMS[which]
        if what == "gap":
            clock_ms += much
            events = machine.gap(ns(clock_ms), stream.source, "the clock was set")
            told[-1] += events[:-2]
            told.append(events[-2:])
            continue
        steps = [10.0] * int(much) if what == "run" else [much]
        for step in steps:
            clock_ms += step
            if what == "advance":
                told[-1] += machine.advance(ns(clock_ms))
            elif what == "began":
                told[-1] += machine.began(stream.source, ns(clock_ms))
            else:
                frame += 1
                state = STATE_INIT if what == "init" else STATE_NORMAL
                nats = 30.0 if what == "strange" else 1.0
                line = Line(frame, frame, ns(clock_ms), stream, state, round(max(0.0, step) * MS))
                told[-1] += machine.step(
                    [LineScore(line, (1.0, nats, float("nan")), 1.0 + nats, 2, (5, 7, -1), False)]
                )
    told[-1] += machine.finish()
    return told


@pytest.mark.parametrize("paper", [False, True])
@settings(max_examples=250, deadline=None)
@given(of=ops)
def test_every_episode_has_one_end_that_is_not_before_its_start(
    paper: bool, of: list[tuple[str, int, float]]
) -> None:
    """Whatever comes in whatever order and however the clock is set; and it is told in order of time."""
    known = watching(A, B, pdu("C", source="ETH2"), pause_ms=20)
    stretches = tell(PerplexityFilter(2.0, 2, 300 * MS) if paper else known, of)
    for events in stretches:
        assert [e.decided_ns for e in events] == sorted(e.decided_ns for e in events)
    phases: dict[str, list[str]] = defaultdict(list)
    for event in [event for events in stretches for event in events]:
        phases[event.id].append(event.phase)
        assert event.start_ns <= event.decided_ns
        if event.end_ns is not None:
            assert event.start_ns <= event.end_ns <= event.decided_ns
    for told in phases.values():
        assert told == ["open", *["update"] * (len(told) - 2), "close"]


@pytest.mark.parametrize("jump_ms", [-HOUR_MS, -1500.0, HOUR_MS])
def test_clock_that_is_set_brings_no_storm(jump_ms: float) -> None:
    """No deadline of the old clock passes, none is waited for too long; and the next fault is found."""
    many = [pdu(f"P{i}", 10 + i) for i in range(40)]
    cycles = {p.name: p.cycle_ns / MS for p in many}
    detector = watching(*many, pause_ms=20)
    before = [every(cycle, HOUR_MS, HOUR_MS + 3000, pdu=name) for name, cycle in cycles.items()]
    start = HOUR_MS + 3000 + jump_ms
    after = [every(cycle, start + 0.5, start + 3000, pdu=name) for name, cycle in cycles.items()]
    gone = [c for script in after for c in script if c.pdu != "P7" or c.ms < start + 2000]
    count = sum(map(len, before))
    lines = scored(
        sorted((c for script in before for c in script), key=lambda c: c.ms),
        sorted(gone, key=lambda c: c.ms),
        in_order=False,
    )
    assert detector.step(lines[:count]) == []
    events = detector.gap(ns(start), "ETH1", "the clock was set")
    assert {event.kind for event in events} == {"capture_gap"}
    (event,) = detector.step(lines[count:])
    assert (event.kind, names(event)) == ("silence", {"P7"})
    assert ns(start + 2000) < event.decided_ns < ns(start + 2050)


def test_outage_before_the_clock_was_set_back_does_not_silence_the_model() -> None:
    """A PDU that was missing then disturbs the model for some seconds of the new clock, not for an hour."""
    detector = watching(A, B)
    before = [*every(10, HOUR_MS, HOUR_MS + 500), *every(100, HOUR_MS, HOUR_MS + 1000, pdu="B")]
    strange = at(15_000, 15_010, delta_nats=30.0)
    after = [*every(10, 0, 15_000), *every(100, 0, 15_000, pdu="B")]
    lines = scored(
        sorted(before, key=lambda c: c.ms), sorted(after, key=lambda c: c.ms), strange, in_order=False
    )
    assert [names(e) for e in opens(detector.step(lines[: len(before)]))] == [{"A"}]
    detector.gap(ns(0), "ETH1", "the clock was set back")
    assert [(names(e), e.decided_ns) for e in opens(detector.step(lines[len(before) :]))] == [
        ({"A"}, ns(15_000))
    ]


@pytest.mark.parametrize("jump_ms", [0.0, 200.0, -HOUR_MS])
def test_model_is_still_disturbed_after_a_gap(jump_ms: float) -> None:
    """What is left of an outage's echo is no evidence after the gap either."""
    detector = watching(A, B)
    start = HOUR_MS + 1000 + jump_ms
    before = [*every(10, HOUR_MS, HOUR_MS + 500), *every(100, HOUR_MS, HOUR_MS + 1000, pdu="B")]
    strange = [*at(start + 1, delta_nats=30.0), *at(start + 1, pdu="B")]
    strange += at(start + 11, start + 21, delta_nats=30.0)
    lines = scored(sorted(before, key=lambda c: c.ms), sorted(strange, key=lambda c: c.ms), in_order=False)
    detector.step(lines[: len(before)])
    detector.gap(ns(start), "ETH1", "lost")
    assert opens(detector.step(lines[len(before) :])) == []
