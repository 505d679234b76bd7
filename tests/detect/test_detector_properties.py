"""What holds for every traffic: random faults in the traffic of five PDUs on two buses."""

import random
from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.detect.detector import Detector
from ecustream.events import Event
from ecustream.scores import LineScore
from ecustream.traffic import STATE_INIT
from tests.detect.scripts import Came, at, every, ns, pdu, scored, watching

END_MS = 3000
KNOWN = (
    pdu("A"),
    pdu("B", 20),
    pdu("S", 100, one_ms=(60, 140), two_ms=(150, 250)),
    pdu("E", 0, one_ms=(0, 0), two_ms=(0, 0)),
    pdu("C", 10, source="ETH2"),
)
CYCLE_MS = {"A": 10, "B": 20, "S": 100, "E": 370, "C": 10}
SOURCES = {"C": "ETH2"}

Fault = tuple[str, str, float, float]
faults = st.lists(
    st.tuples(
        st.sampled_from(["drop", "twice", "late", "strange", "unknown", "overtake", "init"]),
        st.sampled_from(sorted(CYCLE_MS)),
        st.floats(0, 1),
        st.floats(0, 1),
    ),
    max_size=12,
)


def traffic(of: list[Fault]) -> list[LineScore]:
    """Clean traffic with these faults: (kind, PDU, where in the trace, how much), the last two in 0 to 1."""
    came = {
        name: every(cycle, 0, END_MS, pdu=name, source=SOURCES.get(name, "ETH1"))
        for name, cycle in CYCLE_MS.items()
    }
    overtakes = []
    for kind, name, where, much in of:
        script = came[name]
        i = int(where * (len(script) - 1))
        if kind == "drop":
            del script[i : i + 1 + int(much * 50)]
        elif kind == "twice":
            script.insert(i, script[i]._replace(ms=script[i].ms + much * CYCLE_MS[name]))
        elif kind == "late":
            script[i] = script[i]._replace(ms=script[i].ms + 3 * much * CYCLE_MS[name])
        elif kind == "strange":
            for j in range(i, min(len(script), i + 4)):
                script[j] = script[j]._replace(delta_nats=30 * much, name_nats=15 * where)
        elif kind == "unknown":
            came[f"X{i % 7}"] = at(where * END_MS, pdu=f"X{i % 7}")
        elif kind == "init":
            script[i:] = [
                c._replace(state=STATE_INIT) if c.ms < script[i].ms + 200 else c for c in script[i:]
            ]
        elif kind == "overtake":
            overtakes.append((where, 1 + int(much * 20)))
        if not script:
            script += at(0, pdu=name, source=SOURCES.get(name, "ETH1"))
    merged: list[Came] = sorted((c for script in came.values() for c in script), key=lambda c: c.ms)
    for where, places in overtakes:
        merged.insert(
            int(where * len(merged)), merged.pop(min(len(merged) - 1, int(where * len(merged)) + places))
        )
    return scored(merged, in_order=False)


def watcher() -> Detector:
    """A detector of that traffic; no event falls exactly on the edge of this join window."""
    return watching(*KNOWN, pause_ms=30, join_ms=333.333)


def by_episode(events: list[Event]) -> dict[str, list[Event]]:
    """The events of each id in order."""
    of: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        of[event.id].append(event)
    return of


@settings(max_examples=60, deadline=None)
@given(faults, st.lists(st.floats(0, 1), max_size=2))
def test_every_episode_opens_once_is_updated_and_closes_once(of: list[Fault], gaps: list[float]) -> None:
    """Ids are stable and each has exactly one open and one close; times, lines and frames fit together."""
    scores = traffic(of)
    detector = watcher()
    events: list[Event] = []
    begin = newest_ns = 0
    for cut in sorted(int(gap * len(scores)) for gap in gaps):
        events += detector.step(scores[begin:cut])
        newest_ns = max([newest_ns, *(score.line.time_ns for score in scores[begin:cut])])
        events += detector.gap(max(newest_ns, scores[min(cut, len(scores) - 1)].line.time_ns), "ETH1", "lost")
        begin = cut
    events += detector.step(scores[begin:]) + detector.finish()

    frames_of = defaultdict(set)
    for score in scores:
        frames_of[score.line.stream.name].add(score.line.frame)
    assert [event.decided_ns for event in events] == sorted(event.decided_ns for event in events)
    assert [event.id for event in events if event.phase == "open"] == [
        str(i + 1) for i in range(len(by_episode(events)))
    ]
    for told in by_episode(events).values():
        assert [event.phase for event in told] == ["open", *["update"] * (len(told) - 2), "close"]
        assert len({(event.kind, event.source) for event in told}) == 1
        last = told[-1]
        assert last.end_ns is not None
        assert all(event.end_ns is None for event in told[:-1])
        for event in told:
            assert event.start_ns <= event.decided_ns
            assert event.pdus
            assert event.lines == sum(p.lines for p in event.pdus)
            assert event.reason
            if event.kind in ("anomaly", "silence"):
                assert event.score.evidence >= event.score.threshold
            if event.frames is not None:
                between = range(event.frames[0], event.frames[1] + 1)
                for part in event.pdus:
                    assert len(frames_of[part.name].intersection(between)) >= part.lines
            else:
                assert event.lines == 0
        assert last.start_ns <= last.end_ns <= last.decided_ns
        assert [event.lines for event in told] == sorted(event.lines for event in told)


@settings(max_examples=40, deadline=None)
@given(faults, st.lists(st.floats(0, 1), max_size=10))
def test_chunks_never_change_an_event(of: list[Fault], cuts: list[float]) -> None:
    """The events are the same, byte for byte, however the scores are split into calls."""
    scores = traffic(of)
    whole = watcher().step(scores)
    detector = watcher()
    places = sorted(int(cut * len(scores)) for cut in cuts)
    parts = [
        event
        for a, b in zip([0, *places], [*places, len(scores)], strict=True)
        for event in detector.step(scores[a:b])
    ]
    assert parts == whole


@settings(max_examples=40, deadline=None)
@given(faults, st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=20))
def test_passing_time_between_lines_never_changes_an_event(
    of: list[Fault], pauses: list[tuple[float, float]]
) -> None:
    """Time may be advanced between two lines at will, up to the next line: the same events in the same order.

    This is what makes a live run and a replay tell the same.
    """
    scores = traffic(of)
    detector = watcher()
    parts: list[Event] = []
    begin = 0
    for where, how_far in sorted(pauses):
        cut = int(where * (len(scores) - 1))
        parts += detector.step(scores[begin:cut])
        begin = cut
        if cut:
            before, after = scores[cut - 1].line.time_ns, scores[cut].line.time_ns
            if after > before:
                parts += detector.advance(before + int(how_far * (after - before)))
    parts += detector.step(scores[begin:]) + detector.finish()
    whole = watcher()
    assert parts == whole.step(scores) + whole.finish()


def test_close_is_decided_at_the_same_time_however_time_is_advanced() -> None:
    """A live run, which advances time while nothing arrives, closes an episode when the replay does."""
    scores = scored(every(10, 0, 200), at(43), at(2000, pdu="E"))
    known = watching(pdu("A"), pdu("E", 0, one_ms=(0, 0), two_ms=(0, 0)), evidence=frozenset({"interval"}))
    replayed = known.step(scores)
    live = watching(pdu("A"), pdu("E", 0, one_ms=(0, 0), two_ms=(0, 0)), evidence=frozenset({"interval"}))
    events = live.step(scores[:-1])
    for ms in range(200, 2000, 20):
        events += live.advance(ns(ms))
    assert events + live.step(scores[-1:]) == replayed


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_traffic_within_its_bounds_never_gives_an_event(seed: int) -> None:
    """Clean traffic, jittered anywhere inside what was learned, is silence."""
    chance = random.Random(seed)
    known = pdu("A", 10, one_ms=(6, 14), two_ms=(14, 26))
    times = [10 * i + chance.uniform(-2, 2) for i in range(300)]
    detector = watching(known)
    assert detector.step(scored(at(*times))) + detector.finish() == []
