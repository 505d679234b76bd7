"""Days of a hand-made vehicle, given and random, for the tests of what happens on them."""

import itertools

import numpy as np
from hypothesis import strategies as st

from tests.training.handmade import SECOND, full_vehicle
from training.simulate.scenario import Day, Phase, PhaseKind, Segment

RIDE: list[tuple[PhaseKind, float]] = [
    ("asleep", 3),
    ("startup", 6),
    ("drive", 20),
    ("shutdown", 12),
    ("asleep", 4),
]
RESTART: list[tuple[PhaseKind, float]] = [
    ("asleep", 3),
    ("startup", 6),
    ("drive", 20),
    ("shutdown", 2.5),
    ("startup", 6),
    ("drive", 20),
]
WAKE, OFF = 3 * SECOND, 29 * SECOND

PDUS = {pdu.name: index for index, pdu in enumerate(full_vehicle().pdus)}


def phases_of(parts: list[tuple[PhaseKind, float]]) -> tuple[Phase, ...]:
    """Phases of the given lengths in seconds."""
    ends = np.cumsum([round(seconds * SECOND) for _, seconds in parts]).tolist()
    starts = [0, *ends[:-1]]
    return tuple(Phase(kind, start, end) for (kind, _), start, end in zip(parts, starts, ends, strict=True))


def day_of(parts: list[tuple[PhaseKind, float]], drive: int = 0, seed: int = 0) -> Day:
    return Day(full_vehicle(seed), phases_of(parts), drive)


def span(segments: list[Segment]) -> tuple[int, int]:
    """From the first start to the last end, if there is no gap between."""
    assert all(a.end_ns == b.start_ns for a, b in itertools.pairwise(segments))
    return segments[0].start_ns, segments[-1].end_ns


def sent_ns(day: Day, pdu: str, from_ns: int, to_ns: int) -> list[int]:
    """Due times of a PDU by the definition of a segment, on a clock without drift."""
    model = full_vehicle().pdus[PDUS[pdu]]
    unit = full_vehicle().ecus[model.ecu]
    times = []
    for segment in day.segments(PDUS[pdu], from_ns, to_ns):
        for k in range(segment.start_ns // unit.raster_ns - 2, segment.end_ns // unit.raster_ns + 2):
            time_ns = unit.anchor_ns + k * unit.raster_ns + k * unit.raster_ns * unit.drift_ppb // 10**9
            due = (k - model.phase - segment.shift) * unit.raster_ns % segment.cycle_ns == 0
            if due and segment.start_ns <= time_ns < segment.end_ns:
                times.append(time_ns)
    return times


@st.composite
def days(draw: st.DrawFn) -> tuple[Day, int]:
    """A day of random phases that begins anywhere in the round, and its end."""
    length = st.integers(1, 30)
    parts: list[tuple[PhaseKind, float]] = []
    for _ in range(draw(st.integers(1, 3))):
        parts += [("startup", draw(st.integers(4, 9))), ("drive", draw(length)), ("shutdown", draw(length))]
        if draw(st.booleans()):
            parts.append(("asleep", draw(length)))
    parts = parts[draw(st.integers(0, len(parts) - 1)) :]
    day = day_of(parts, draw(st.integers(0, 2**40)), draw(st.integers(0, 2**40)))
    return day, day.phases[-1].end_ns
