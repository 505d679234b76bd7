"""A block of scores taken as a whole brings about what its lines bring about one by one."""

import random
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.detect.detector import ALL_EVIDENCE, Detector
from ecustream.events import Event
from ecustream.scores import LineScore
from tests.detect.scripts import (
    DRIFT_NATS,
    THRESHOLDS,
    at,
    block_of,
    calibration,
    every,
    ns,
    pdu,
    scored,
    watching,
)
from tests.detect.test_detector_properties import KNOWN, Fault, faults, traffic


def noisy(scores: Sequence[LineScore], seed: int, share: float) -> list[LineScore]:
    """The same lines, a share of them with surprisal around the onset, and a few while warming."""
    chance = random.Random(seed)
    noised = []
    for score in scores:
        name, delta, state = score.field_nats
        if chance.random() < share:
            name, delta = chance.choice([(name, chance.uniform(2, 9)), (chance.uniform(1, 7), delta)])
        warming = score.line.number < 30
        noised.append(score._replace(field_nats=(name, delta, state), warming=warming))
    return list(block_of(noised).rows())


def run(
    detector: Detector, scores: Sequence[LineScore], cuts: Sequence[int], gaps: set[int], blocks: bool
) -> list[Event]:
    """The events where the lines are fed in these pieces; before some of them the capture has a gap."""
    events: list[Event] = []
    for i, (a, b) in enumerate(zip([0, *cuts], [*cuts, len(scores)], strict=True)):
        if a == b:
            continue
        if i in gaps:
            newest_ns = max(score.line.time_ns for score in scores[: a + 1])
            events += detector.gap(newest_ns, "ETH1", "lost")
        part = scores[a:b]
        events += detector.step_block(block_of(part)) if blocks else detector.step(part)
    return events + detector.finish()


@settings(max_examples=150, deadline=None)
@given(
    faults,
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.03, 0.3]),
    st.lists(st.floats(0, 1), max_size=12),
    st.sets(st.integers(0, 12), max_size=1),
    st.sampled_from([ALL_EVIDENCE, ALL_EVIDENCE - {"interval"}, ALL_EVIDENCE - {"deadline", "name"}]),
    st.sampled_from([30.0, 8.0]),
)
def test_blocks_never_change_an_event(
    of: list[Fault],
    seed: int,
    share: float,
    places: list[float],
    gaps: set[int],
    evidence: frozenset[str],
    pause_ms: float,
) -> None:
    """The events are the same, byte for byte, whether a piece comes as lines or as a block."""
    scores = noisy(traffic(of), seed, share)
    cuts = sorted(int(place * len(scores)) for place in places)
    detectors = [watching(*KNOWN, pause_ms=pause_ms, join_ms=333.333, evidence=evidence) for _ in range(2)]
    lines = run(detectors[0], scores, cuts, gaps, blocks=False)
    assert run(detectors[1], scores, cuts, gaps, blocks=True) == lines


EDGES = (0.905, 1.095, 0.89, 1.12, 1.25, 0.5)
"""Of a cycle: just inside and just outside of what is learned, clearly late and clearly early."""
EDGE_KNOWN = (
    pdu("A"),
    pdu("TWIN"),
    pdu("B", 20),
    pdu("S", 60, one_ms=(40, 80), two_ms=(100, 140)),
    pdu("Z", 15, one_ms=(0, 30), two_ms=(0, 60)),
    pdu("C", 30, source="ETH2"),
    pdu("E", 0, one_ms=(0, 0), two_ms=(0, 0)),
)


def edge_traffic(seed: int, odd: float) -> list[LineScore]:
    """Traffic near its bounds: a share `odd` of the lines lies at an edge, or is the last for a while."""
    chance = random.Random(seed)
    came = []
    for known in EDGE_KNOWN:
        cycle_ms = known.cycle_ns / 1e6 or 55.0
        ms, step = 0.0, 1.0
        while ms < 2500:
            place = chance.random() if known.name == "TWIN" else 0.5
            came.append((ms, place, at(ms, pdu=known.name, source=known.source)[0]))
            # One that is inside follows another now and then, so that the two together are outside.
            step = chance.choice(EDGES) if chance.random() < (odd if step == 1.0 else 0.4) else 1.0
            if known.name == "Z" and step < 1:
                step = 0.0
            if chance.random() < odd / 3:
                step = chance.choice([3.0, 9.0, 40.0])
            ms += step * cycle_ms
    if chance.random() < odd * 10:
        begin, length = chance.uniform(500, 2000), chance.choice([20, 60, 64, 70, 300])
        came = [c for c in came if not begin < c[0] < begin + length]
    came.sort(key=lambda c: c[:2])
    lines = [c[2] for c in came]
    for _ in range(round(odd * 40)):
        i = chance.randrange(1, len(lines))
        lines.insert(i - 1, lines.pop(i))
    return scored(lines, in_order=False)


def memory(detector: Detector) -> list[object]:
    """What it remembers of every PDU and every bus."""
    pdus = detector._by_key.values()
    buses = detector._buses.values()
    return [
        *((w.deadline_ns, w.last_frame, w.overdue) for w in pdus),
        *((d.sum_nats, d.peak_nats, d.open, d.idle) for w in pdus for d in (w.interval, w.model)),
        *((bus.last_ns, bus.silent, bus.disturbed_ns) for bus in buses),
    ]


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.002, 0.01, 0.05]),
    st.sampled_from([0.0, 0.05]),
    st.integers(48, 160),
    st.sampled_from([20.0, 4.0]),
)
def test_blocks_never_change_an_event_at_the_edge(
    seed: int, odd: float, strange: float, length: int, pause_ms: float
) -> None:
    """Also where PDUs keep just within their bounds, and the pauses of a bus are almost too long."""
    scores = noisy(edge_traffic(seed, odd), seed, strange)
    lines, blocks = (watching(*EDGE_KNOWN, pause_ms=pause_ms, join_ms=120) for _ in range(2))
    for i in range(0, len(scores), length):
        part = scores[i : i + length]
        assert blocks.step_block(block_of(part)) == lines.step(part)
        # What is no event yet must be remembered alike.
        assert memory(blocks) == memory(lines)
    assert blocks.finish() == lines.finish()


@settings(max_examples=60, deadline=None)
@given(faults, st.integers(0, 2**32 - 1), st.integers(50, 200), st.floats(0, 1), st.floats(0, 1))
def test_time_may_pass_between_blocks(
    of: list[Fault], seed: int, length: int, where: float, how_far: float
) -> None:
    """What falls due between two blocks is told then, as it is between two lines."""
    scores = noisy(traffic(of), seed, 0.03)
    told: list[list[Event]] = []
    for blocks in (False, True):
        detector = watching(*KNOWN, pause_ms=30, join_ms=333.333)
        events: list[Event] = []
        for a in range(0, len(scores), length):
            part = scores[a : a + length]
            before = max((score.line.time_ns for score in scores[:a]), default=0)
            if a and part[0].line.time_ns > before and how_far > where:
                events += detector.advance(before + int(how_far * (part[0].line.time_ns - before)))
            events += detector.step_block(block_of(part)) if blocks else detector.step(part)
        told.append(events + detector.finish())
    assert told[1] == told[0]


def test_evidence_that_rose_and_opened_nothing_is_noted_from_blocks_too() -> None:
    """Calibration learns its peaks from either."""
    scores = scored([c._replace(delta_nats=7.5) if c.ms == 500 else c for c in every(10, 0, 1000)])
    for blocks in (False, True):
        noted: list[tuple[int, float]] = []
        detector = Detector(calibration(pdu()), THRESHOLDS, excursions=noted)
        for part in (scores[:30], scores[30:]):
            assert (detector.step_block(block_of(part)) if blocks else detector.step(part)) == []
        assert noted == [(ns(510), 7.5 - DRIFT_NATS)]
