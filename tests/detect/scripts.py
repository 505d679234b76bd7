"""Traffic as scripts: who came when, as scored lines; and detectors that know that traffic by hand."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ecustream.detect.calibration import (
    CALIBRATION_FORMAT,
    BusCalibration,
    Calibration,
    PduCalibration,
    Peaks,
    Tail,
)
from ecustream.detect.detector import ALL_EVIDENCE, Detector, Thresholds
from ecustream.detect.perplexity import PerplexityFilter
from ecustream.events import Event
from ecustream.scores import FIELDS, LineScore, ScoreBlock
from ecustream.traffic import STATE_NORMAL, Line, Stream

MS = 1_000_000
START_NS = 1_700_000_000_000_000_000
THRESHOLDS = Thresholds(interval_nats=6.0, model_nats=8.0)
DRIFT_NATS = 4.0
INTERVAL = Tail(at_zero_nats=8.0, scale=0.05)
"""With the drift and the threshold above an overrun of a tenth of a cycle is just enough."""


def ns(ms: float) -> int:
    """A time of a script as capture time."""
    return START_NS + round(ms * MS)


def pdu(
    name: str = "A",
    cycle_ms: float = 10,
    one_ms: tuple[float, float] | None = None,
    two_ms: tuple[float, float] | None = None,
    source: str = "ETH1",
) -> PduCalibration:
    """A known PDU; by default its intervals keep within a tenth of its cycle, over one and over two."""
    low, high = one_ms or (0.9 * cycle_ms, 1.1 * cycle_ms)
    low_two, high_two = two_ms or (1.9 * cycle_ms, 2.1 * cycle_ms)
    return PduCalibration(
        key=name,
        name=name,
        source=source,
        lines=1000,
        cycle_ns=round(cycle_ms * MS),
        shortest_ns=(round(low * MS), round(low_two * MS)),
        longest_ns=(round(high * MS), round(high_two * MS)),
        delta_onset_nats=3.0,
        delta_scale_nats=1.0,
        name_onset_nats=2.0,
        name_scale_nats=1.0,
    )


def calibration(*pdus: PduCalibration, pause_ms: float = 1000, interval: Tail = INTERVAL) -> Calibration:
    """What is known of these PDUs; a bus of theirs may pause for `pause_ms`."""
    return Calibration(
        format=CALIBRATION_FORMAT,
        pdus=list(pdus),
        buses=[
            BusCalibration(source=source, longest_pause_ns=round(pause_ms * MS))
            for source in sorted({p.source for p in pdus})
        ],
        interval=interval,
        delta=Tail(4.0, 1.0),
        name=Tail(4.0, 1.0),
        drift_nats=DRIFT_NATS,
        clean_lines=100_000,
        lines_per_hour=1e6,
        model_peaks=Peaks(1.0, [float(n) for n in range(1, 41)]),
    )


def watching(
    *pdus: PduCalibration,
    pause_ms: float = 1000,
    join_ms: float = 500,
    thresholds: Thresholds = THRESHOLDS,
    evidence: frozenset[str] = ALL_EVIDENCE,
) -> Detector:
    """A detector that knows these PDUs, or else A alone, every 10 ms and overdue after 12."""
    known = calibration(*(pdus or (pdu(),)), pause_ms=pause_ms)
    return Detector(known, thresholds, round(join_ms * MS), evidence=evidence)


class Came(NamedTuple):
    """One line of a script: when which PDU came, and what the model thought of it."""

    ms: float
    pdu: str
    delta_nats: float
    name_nats: float
    state: int
    source: str
    warming: bool


def at(
    *times_ms: float,
    pdu: str = "A",
    delta_nats: float = 1.0,
    name_nats: float = 1.0,
    state: int = STATE_NORMAL,
    source: str = "ETH1",
    warming: bool = False,
) -> list[Came]:
    """One PDU came at these times."""
    return [Came(ms, pdu, delta_nats, name_nats, state, source, warming) for ms in times_ms]


def every(
    cycle_ms: float,
    start_ms: float,
    end_ms: float,
    *,
    pdu: str = "A",
    without: Sequence[float] = (),
    source: str = "ETH1",
    state: int = STATE_NORMAL,
) -> list[Came]:
    """One PDU came at every cycle from `start_ms` to before `end_ms`, except at the times `without`."""
    count = int((end_ms - start_ms - 1e-6) // cycle_ms) + 1
    times = [start_ms + i * cycle_ms for i in range(count)]
    return at(*(t for t in times if t not in without), pdu=pdu, source=source, state=state)


def scored(*scripts: Iterable[Came], in_order: bool = True) -> list[LineScore]:
    """The lines of all scripts, merged by time unless `in_order` is false; line n is in frame n + 1."""
    came = [c for script in scripts for c in script]
    if in_order:
        came.sort(key=lambda c: c.ms)
    streams: dict[str, Stream] = {}
    last_ns: dict[str, int] = {}
    scores = []
    for number, c in enumerate(came):
        stream = streams.get(c.pdu)
        if stream is None:
            stream = streams[c.pdu] = Stream(
                len(streams), c.pdu, c.pdu, c.source, "10.0.0.1", 42994, "239.0.0.1", 42557
            )
        time_ns = ns(c.ms)
        delta_ns = max(0, time_ns - last_ns[c.pdu]) if c.pdu in last_ns else None
        last_ns[c.pdu] = max(time_ns, last_ns.get(c.pdu, time_ns))
        line = Line(number, number + 1, time_ns, stream, c.state, delta_ns)
        total = c.delta_nats + c.name_nats
        nats = (c.name_nats, c.delta_nats, float("nan"))
        scores.append(LineScore(line, nats, total, 2, (5, 7, -1), c.warming))
    return scores


def block_of(scores: Sequence[LineScore]) -> ScoreBlock:
    """The scores of some lines as a block."""
    return ScoreBlock(
        [score.line for score in scores],
        np.array([score.field_nats for score in scores], np.float32).reshape(-1, len(FIELDS)),
        np.array([score.tokens for score in scores], np.int64),
        np.array([score.expected for score in scores], np.int64).reshape(-1, len(FIELDS)),
        np.array([score.warming for score in scores], np.bool_),
    )


def feed(
    machine: Detector | PerplexityFilter,
    *scripts: Iterable[Came],
    until_ms: float | None = None,
    finish: bool = False,
) -> list[Event]:
    """Feed the lines of all scripts in order, then let time pass until `until_ms`, then end the traffic.

    Without `until_ms` and `finish` it stops after the last line.
    """
    events = machine.step(scored(*scripts))
    if until_ms is not None:
        events += machine.advance(ns(until_ms))
    if finish:
        events += machine.finish()
    return events


def opens(events: Iterable[Event]) -> list[Event]:
    """The events that open an episode."""
    return [event for event in events if event.phase == "open"]


def closes(events: Iterable[Event]) -> list[Event]:
    """The events that close an episode."""
    return [event for event in events if event.phase == "close"]


def names(event: Event) -> set[str]:
    """The PDUs of an event."""
    return {pdu.name for pdu in event.pdus}
