"""Learns from clean traffic what is normal: intervals, surprisal tails, and the peaks of evidence.

Intervals come from all clean traffic. Whatever says how often clean traffic breaks what was learned is
measured on traffic that had no part in the learning: the overrun of interval bounds on each quarter of
the traffic with bounds of the three others, the peaks of the model's accumulated evidence on each half of
the held-out part with surprisal tails of the other half.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from ecustream.detect.calibration import (
    CALIBRATION_FORMAT,
    BusCalibration,
    Calibration,
    PduCalibration,
    Peaks,
    Tail,
)
from ecustream.detect.detector import Detector, Thresholds
from ecustream.scores import FIELD_DELTA, FIELD_NAME, ScoreBlock
from ecustream.traffic import Line, Stream

__all__ = ["DRIFT_NATS", "Bounds", "IntervalLearner", "calibrate", "interval_bounds"]

DRIFT_NATS = 4.0
_ONSET_QUANTILE = 0.98
_PRIOR_EXCESSES = 10
_MIN_LINES = 20
_MAX_CYCLES = 3.0
_LEAST_PRESENCE = 0.3
_FEWEST_BETWEEN, _BETWEEN_SHARE = 5, 0.002
_JOIN_NS = 500_000_000
_LONGEST_PAUSE_NS = 10_000_000_000

Times = npt.NDArray[np.int64]


class Bounds(msgspec.Struct, frozen=True):
    """Learned intervals of one PDU: median cycle (0: not cyclic), shortest and longest over 1 and 2."""

    lines: int
    cycle_ns: int
    shortest_ns: tuple[int, int]
    longest_ns: tuple[int, int]


class IntervalLearner:
    """Collects the capture times of every PDU key, piece by piece of uninterrupted traffic."""

    def __init__(self) -> None:
        self.streams: dict[str, Stream] = {}
        self.pieces: list[dict[str, Times]] = []
        self.pauses_ns: dict[str, int] = {}
        self._current: dict[str, list[int]] = {}
        self._last_ns: dict[str, int] = {}

    def add(self, lines: Iterable[Line]) -> None:
        """Take lines of the current piece."""
        current, last = self._current, self._last_ns
        for line in lines:
            stream = line.stream
            times = current.get(stream.key)
            if times is None:
                times = current[stream.key] = []
                self.streams.setdefault(stream.key, stream)
            times.append(line.time_ns)
            before = last.get(stream.source)
            if before is not None and line.time_ns - before > self.pauses_ns.get(stream.source, 0):
                self.pauses_ns[stream.source] = line.time_ns - before
            last[stream.source] = line.time_ns

    def end_piece(self) -> None:
        """The next lines do not follow the previous ones: another trace, or a gap."""
        if self._current:
            # Lines that overtook each other in the capture count as simultaneous.
            pieces = {k: np.maximum.accumulate(np.array(v, np.int64)) for k, v in self._current.items()}
            self.pieces.append(pieces)
        self._current, self._last_ns = {}, {}

    def bounds(self, leave_out: tuple[float, float] = (1.0, 1.0)) -> dict[str, Bounds]:
        """Learned intervals of every PDU, without the share of every piece between two fractions."""
        spans: dict[str, tuple[list[Times], list[Times], int]] = {}
        for key, times in self._parts((0.0, leave_out[0]), (leave_out[1], 1.0)):
            one, two, lines = spans.get(key, ([], [], 0))
            one.append(np.diff(times))
            two.append(times[2:] - times[:-2])
            spans[key] = one, two, lines + len(times)
        return {
            key: interval_bounds(np.concatenate(one), np.concatenate(two), n, self._duration_ns())
            for key, (one, two, n) in spans.items()
        }

    def overruns(self, folds: int = 4) -> tuple[list[float], int]:
        """Overruns in cycles of bounds learned elsewhere, and how many lines were judged.

        Every quarter of every piece is judged by the bounds of the three others.
        """
        overruns: list[float] = []
        judged = 0
        for fold in range(folds):
            part = fold / folds, (fold + 1) / folds
            bounds = self.bounds(leave_out=part)
            for key, times in self._parts(part):
                learned = bounds.get(key)
                if learned is not None and learned.cycle_ns and len(times) > 1:
                    worst = _overrun(times, learned)
                    judged += len(worst)
                    overruns += worst[worst > 0].tolist()
        return overruns, judged

    def lines_per_hour(self) -> float:
        """Mean rate of all pieces together."""
        lines = sum(len(times) for piece in self.pieces for times in piece.values())
        return lines / max(self._duration_ns(), 1) * 3.6e12

    def _duration_ns(self) -> int:
        return sum(
            max(int(t[-1]) for t in piece.values()) - min(int(t[0]) for t in piece.values())
            for piece in self.pieces
        )

    def _parts(self, *parts: tuple[float, float]) -> Iterable[tuple[str, Times]]:
        for piece in self.pieces:
            first = min(int(t[0]) for t in piece.values())
            last = max(int(t[-1]) for t in piece.values()) + 1
            for low, high in parts:
                if high > low:
                    ends = np.array([first + int((last - first) * share) for share in (low, high)])
                    for key, times in piece.items():
                        start, stop = np.searchsorted(times, ends)
                        yield key, times[start:stop]


def _overrun(times: Times, learned: "Bounds") -> npt.NDArray[np.float64]:
    """How far each line breaks its bounds over one or two intervals, in cycles; 0 where it does not."""
    worst = np.zeros(len(times) - 1)
    for steps, low, high in zip((1, 2), learned.shortest_ns, learned.longest_ns, strict=True):
        span = times[steps:] - times[:-steps]
        over = np.maximum(low - span, span - high) / learned.cycle_ns
        worst[steps - 1 :] = np.maximum(worst[steps - 1 :], over) if len(over) else worst[steps - 1 :]
    return worst


def interval_bounds(one: Times, two: Times, lines: int, duration_ns: int) -> Bounds:
    """Bounds of a PDU.

    Args:
        one: its intervals in ns.
        two: its spans over two intervals.
        lines: how often it came.
        duration_ns: of the traffic.
    """
    if len(one) < _MIN_LINES or not len(two):
        return Bounds(lines, 0, (0, 0), (0, 0))
    cycle = int(np.median(one))
    # A PDU that is also sent on events has no cycle whose overrun means anything.
    regular = cycle > 0 and np.quantile(one, _ONSET_QUANTILE) <= _MAX_CYCLES * cycle
    # Nor has one that was there for a short while only, as diagnostic requests are.
    if not regular or lines * cycle < _LEAST_PRESENCE * duration_ns:
        return Bounds(lines, 0, (0, 0), (0, 0))
    longest = int(one.max()), int(two.max())
    # One that is also sent on change comes at any time between: no interval is too short.
    if np.count_nonzero(one < cycle // 2) >= max(_FEWEST_BETWEEN, _BETWEEN_SHARE * len(one)):
        return Bounds(lines, cycle, (0, 0), longest)
    return Bounds(lines, cycle, (int(one.min()), int(two.min())), longest)


def _tail(excesses: Sequence[float], observed: int, least_scale: float) -> Tail:
    """Tail of `excesses` among `observed`; the scale is raised by one standard error."""
    count = max(len(excesses), 1)
    scale = max(float(np.mean(excesses)) if len(excesses) else 0.0, least_scale) * (1 + 1 / math.sqrt(count))
    return Tail(max(0.0, math.log(max(observed, 1) / count)), scale)


class _FieldTails:
    """Onset and scale of the surprisal of one field, for every PDU key."""

    def __init__(self, nats_of: Mapping[str, npt.NDArray[np.float64]]) -> None:
        pooled = np.concatenate(list(nats_of.values())) if nats_of else np.zeros(1)
        self.pooled_onset = float(np.quantile(pooled, _ONSET_QUANTILE))
        over = pooled[pooled > self.pooled_onset] - self.pooled_onset
        self.pooled_scale = max(float(over.mean()) if len(over) else 1.0, 0.1)
        self.of: dict[str, tuple[float, float]] = {}
        z: list[float] = []
        for key, nats in nats_of.items():
            # A rare PDU's own quantile is its maximum: lean on all PDUs in proportion to what is missing.
            weight = len(nats) / (len(nats) + 50)
            own = float(np.quantile(nats, _ONSET_QUANTILE))
            onset = max(own, weight * own + (1 - weight) * self.pooled_onset)
            over = nats[nats > onset] - onset
            scale = (float(over.sum()) + _PRIOR_EXCESSES * self.pooled_scale) / (len(over) + _PRIOR_EXCESSES)
            self.of[key] = onset, scale
            z += (over / scale).tolist()
        self.tail = _tail(z, len(pooled), 0.5)

    def get(self, key: str) -> tuple[float, float]:
        return self.of.get(key, (self.pooled_onset, self.pooled_scale))


def _nats_of(blocks: Iterable[ScoreBlock], field: int) -> dict[str, npt.NDArray[np.float64]]:
    collected: dict[str, list[npt.NDArray[np.float64]]] = {}
    for block in blocks:
        keys = np.array([line.stream.index for line in block.lines])
        streams = {line.stream.index: line.stream for line in block.lines}
        good = ~block.warming & ~np.isnan(block.field_nats[:, field])
        for index in np.unique(keys[good]).tolist():
            nats = block.field_nats[good & (keys == index), field].astype(np.float64)
            collected.setdefault(streams[index].key, []).append(nats)
    return {key: np.concatenate(parts) for key, parts in collected.items()}


def calibrate(
    intervals: IntervalLearner, held_out: Sequence[ScoreBlock], held_out_share: float
) -> Calibration:
    """Calibration from clean traffic.

    Args:
        intervals: all clean traffic.
        held_out: scores of its last `held_out_share`, or of the newest lines of that, in order; the model was
            not trained on them.
        held_out_share: 0 to 1.
    """
    overruns, judged = intervals.overruns()
    tail = _tail(overruns, judged, 0.005)
    early_bounds = intervals.bounds(leave_out=(1 - held_out_share, 1.0))
    middle = len(held_out) // 2
    halves = held_out[:middle], held_out[middle:]
    peaks: list[float] = []
    hours = 0.0
    for learned_on, judged_on in (halves, halves[::-1]):
        if learned_on and judged_on:
            trial = _assemble(intervals, early_bounds, tail, learned_on, Peaks(1.0, []))
            peaks += _peaks(trial, judged_on)
            hours += sum(_piece_hours(judged_on))
    return _assemble(intervals, intervals.bounds(), tail, held_out, Peaks(hours, peaks))


def _piece_hours(blocks: Sequence[ScoreBlock]) -> Iterable[float]:
    for block in blocks:
        if len(block.lines) > 1:
            yield max(0, block.lines[-1].time_ns - block.lines[0].time_ns) / 3.6e12


def _assemble(
    intervals: IntervalLearner,
    bounds: Mapping[str, Bounds],
    interval_tail: Tail,
    blocks: Sequence[ScoreBlock],
    model_peaks: Peaks,
) -> Calibration:
    delta = _FieldTails(_nats_of(blocks, FIELD_DELTA))
    name = _FieldTails(_nats_of(blocks, FIELD_NAME))
    pdus = []
    for key, stream in intervals.streams.items():
        learned = bounds.get(key, Bounds(0, 0, (0, 0), (0, 0)))
        (delta_onset, delta_scale), (name_onset, name_scale) = delta.get(key), name.get(key)
        pdus.append(
            PduCalibration(
                key=key,
                name=stream.name,
                source=stream.source,
                lines=learned.lines,
                cycle_ns=learned.cycle_ns,
                shortest_ns=learned.shortest_ns,
                longest_ns=learned.longest_ns,
                delta_onset_nats=round(delta_onset, 4),
                delta_scale_nats=round(delta_scale, 4),
                name_onset_nats=round(name_onset, 4),
                name_scale_nats=round(name_scale, 4),
            )
        )
    return Calibration(
        format=CALIBRATION_FORMAT,
        pdus=pdus,
        buses=[
            BusCalibration(source=source, longest_pause_ns=pause)
            for source, pause in sorted(intervals.pauses_ns.items())
        ],
        interval=interval_tail,
        delta=delta.tail,
        name=name.tail,
        drift_nats=DRIFT_NATS,
        clean_lines=sum(len(block.lines) for block in blocks),
        lines_per_hour=intervals.lines_per_hour(),
        model_peaks=model_peaks,
    )


def _peaks(calibration: Calibration, blocks: Sequence[ScoreBlock]) -> list[float]:
    """The peaks of the model's evidence, of those within a join window only the highest."""
    excursions: list[tuple[int, float]] = []
    detector, last_ns = None, 0
    for block in blocks:
        first_ns = block.lines[0].time_ns
        # Another drive: what one ends with must not be judged together with what the next begins with.
        if detector is None or not 0 <= first_ns - last_ns <= _LONGEST_PAUSE_NS:
            detector = Detector(
                calibration,
                Thresholds(float("inf"), float("inf")),
                evidence=frozenset({"delta", "name"}),
                excursions=excursions,
            )
        detector.step(block.rows())
        last_ns = block.lines[-1].time_ns
    peaks: list[float] = []
    newest_ns = -_JOIN_NS
    for time_ns, peak in sorted(excursions):
        if time_ns - newest_ns <= _JOIN_NS:
            peaks[-1] = max(peaks[-1], round(peak, 3))
        else:
            peaks.append(round(peak, 3))
            newest_ns = time_ns
    return peaks
