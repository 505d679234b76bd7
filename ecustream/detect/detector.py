"""Scores in, events out: all evidence about every PDU of a run, in capture time."""

import heapq
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ecustream.detect.calibration import Calibration, PduCalibration
from ecustream.detect.debounce import Debounce
from ecustream.detect.episodes import Episodes, Sighting
from ecustream.detect.intervals import Deviation, IntervalWatch
from ecustream.detect.reasons import interval_reason, overdue_reason, surprise_reason
from ecustream.events import Event, Evidence
from ecustream.scores import FIELD_DELTA, FIELD_NAME, FIELDS, LineScore
from ecustream.traffic import STATE_INIT, Line, Stream
from ecustream.units import duration

__all__ = ["ALL_EVIDENCE", "Detector", "Expectation", "Thresholds"]

ALL_EVIDENCE = frozenset({"interval", "deadline", "delta", "name"})
"""Kinds of evidence that can be used alone or together; `Detector` uses all by default."""

Expectation = Callable[[int, Stream], str | None]
"""Says in words what a token means that the model expected, for a line of a stream."""

_MODEL_SHARE = 0.2
"""Of the false alarm budget: the tail of the model's evidence is the less certain one."""

_STALE_NS = 5_000_000_000
_PAUSE_FACTOR = 3
_PAUSE_FLOOR_NS = 50_000_000


class Thresholds(NamedTuple):
    """The accumulated evidence that opens a finding, for each channel of evidence."""

    interval_nats: float
    model_nats: float

    @classmethod
    def for_budget(cls, calibration: Calibration, false_alarms_per_hour: float) -> "Thresholds":
        """Share the budget out between the channels; the rarity of a single line opens at the first."""
        model = _MODEL_SHARE * false_alarms_per_hour
        single = calibration.interval_threshold_nats(false_alarms_per_hour - model)
        return cls(max(single - calibration.drift_nats, 1.0), calibration.model_peaks.threshold_nats(model))


class _Watched:
    """Everything remembered of one known PDU."""

    __slots__ = ("cal", "expiry_ns", "interval", "intervals", "last_frame", "model", "overdue", "stream")

    def __init__(
        self,
        cal: PduCalibration,
        stream: Stream,
        thresholds: Thresholds,
        drift_nats: float,
        counts_cycles: float,
    ) -> None:
        self.cal = cal
        self.stream = stream
        self.intervals = IntervalWatch(cal, counts_cycles) if cal.cycle_ns else None
        self.interval = Debounce(thresholds.interval_nats, drift_nats, overlap=2)
        self.model = Debounce(thresholds.model_nats, drift_nats, adapt=True)
        self.expiry_ns = max(_STALE_NS, 5 * cal.cycle_ns)
        self.overdue = False
        self.last_frame = 0


class _Bus:
    """Everything remembered of one bus."""

    __slots__ = ("disturbed_ns", "last_ns", "limit_ns", "overdue", "pause_ns", "silent", "stream")

    def __init__(self, source: str, pause_ns: int) -> None:
        self.stream = Stream(-1, f"bus|{source}", f"all of {source}", source, "", 0, "", 0)
        self.pause_ns = pause_ns
        self.limit_ns = max(_PAUSE_FACTOR * pause_ns, pause_ns + _PAUSE_FLOOR_NS)
        self.last_ns = 0
        self.silent = False
        # While PDUs are missing or out of time, and shortly after, the model's context is none that it
        # was calibrated on: what it says of other PDUs then is an echo.
        self.overdue = 0
        self.disturbed_ns = 0


class Detector:
    """Turns scored lines into events; a pure state machine clocked by capture time.

    A line gives evidence about its PDU in two channels, each as a rarity in nats: its interval against
    the learned bounds, and the model's surprisal at its delta time or its name. Each accumulates in a
    `Debounce` of its own; `Episodes` groups what opens. A cyclic PDU that has not come by the time at
    which its interval alone would open a finding is reported then; a bus that carries nothing for three
    times its longest learned pause is reported as a whole.

    Args:
        calibration: learned from clean traffic.
        thresholds: accumulated evidence that opens a finding, see `Thresholds.for_budget`.
        join_ns: see `Episodes`.
        expectation: words for a token, for the reasons.
        evidence: kinds of evidence to use.
        excursions: where given, (time, peak) of every rise of the model's evidence that opened nothing is
            added to it; this is what calibration learns from.
    """

    def __init__(
        self,
        calibration: Calibration,
        thresholds: Thresholds,
        join_ns: int = 500_000_000,
        expectation: Expectation = lambda token, stream: None,
        evidence: frozenset[str] = ALL_EVIDENCE,
        excursions: list[tuple[int, float]] | None = None,
    ) -> None:
        self._cal = calibration
        self._thresholds = thresholds
        self._expectation = expectation
        self._evidence = evidence
        self._excursions = excursions
        self._of_key = {pdu.key: pdu for pdu in calibration.pdus}
        self._watched: list[_Watched | None] = []
        self._by_key: dict[str, _Watched] = {}
        self._unknown: set[int] = set()
        self._buses: dict[str, _Bus] = {}
        self._pauses = {bus.source: bus.longest_pause_ns for bus in calibration.buses}
        # (time, order, PDU): an entry counts only if it still is that PDU's own deadline.
        self._deadlines: list[tuple[int, int, _Watched]] = []
        self._order = 0
        self._overdue_cycles = max(
            calibration.interval.excess(thresholds.interval_nats + calibration.drift_nats), 1e-6
        )
        self._now = 0
        self._join_ns = join_ns
        self.episodes = Episodes(join_ns)

    def step(self, scores: Iterable[LineScore]) -> list[Event]:
        """Take scored lines in order; the events that they bring about."""
        events: list[Event] = []
        for score in scores:
            line = score.line
            now = line.time_ns
            if now > self._now:
                self.advance(now, events)
            elif now < self._now:
                now = self._now
            bus = self._buses.get(line.stream.source)
            if bus is None:
                bus = self._start_bus(line.stream.source, now)
            elif bus.silent:
                bus.silent = False
                self.episodes.closed(bus.stream.key, now)
            bus.last_ns = now
            index = line.stream.index
            watched = self._watched[index] if index < len(self._watched) else None
            if watched is None:
                watched = self._watch(line.stream)
                if watched is None:
                    if index not in self._unknown:
                        self._unknown.add(index)
                        events += self._unknown_pdu(line, now)
                    continue
            self._judge(watched, bus, score, now, events)
        return events

    def advance(self, time_ns: int, events: list[Event] | None = None) -> list[Event]:
        """Let capture time pass without lines; deadlines that it passes bring about events."""
        events = [] if events is None else events
        for bus in self._buses.values():
            silent_at = bus.last_ns + bus.limit_ns
            if time_ns > silent_at and not bus.silent:
                self._pass_deadlines(silent_at, events)
                self._bus_silent(bus, silent_at, events)
        self._pass_deadlines(time_ns, events)
        check = self.episodes.next_check_ns
        if check is not None and time_ns >= check:
            events += self.episodes.advance(time_ns)
        self._now = max(self._now, time_ns)
        return events

    def _pass_deadlines(self, time_ns: int, events: list[Event]) -> None:
        deadlines = self._deadlines
        while deadlines and deadlines[0][0] < time_ns:
            at, _, watched = heapq.heappop(deadlines)
            self._overdue(watched, at, events)

    def gap(self, time_ns: int, source: str, why: str) -> list[Event]:
        """The capture lost something before `time_ns`: forget all history, judge nothing across it."""
        events = self.episodes.finish(self._now) if self._now else []
        self._deadlines.clear()
        for watched in self._by_key.values():
            watched.interval.reset()
            watched.model.reset()
            watched.overdue = False
            if watched.intervals is not None:
                watched.intervals.reset()
        for bus in self._buses.values():
            bus.silent, bus.last_ns, bus.overdue = False, time_ns, 0
        start = self._now or time_ns
        self._now = time_ns
        return events + self.episodes.capture_gap(start, time_ns, source, why)

    def finish(self) -> list[Event]:
        """The traffic ends here; open episodes close."""
        return self.episodes.finish(self._now)

    # One line.

    def _judge(self, watched: _Watched, bus: _Bus, score: LineScore, now: int, events: list[Event]) -> None:
        deviation, interval_nats = None, 0.0
        if watched.intervals is not None and score.line.state != STATE_INIT:
            deviation = watched.intervals.arrive(now)
            if deviation is not None and "interval" in self._evidence:
                interval_nats = self._cal.interval.rarity(deviation.excess_cycles)
            self._set_deadline(watched)
        was_overdue, watched.overdue = watched.overdue, False
        if was_overdue:
            bus.overdue -= 1
            bus.disturbed_ns = now + self._join_ns
        watched.last_frame = score.line.frame
        delta_nats, name_nats = self._surprise(watched.cal, score)
        if bus.overdue or now < bus.disturbed_ns:
            delta_nats = name_nats = 0.0
        model_nats = max(delta_nats, name_nats)
        interval, model = watched.interval, watched.model
        quiet = interval_nats == 0.0 and model_nats == 0.0
        if quiet and interval.idle and model.idle:
            return
        was_open = interval.open or model.open
        peak = model.peak_nats
        interval_change, model_change = interval.step(interval_nats), model.step(model_nats)
        if self._excursions is not None and model.peak_nats == 0.0 < peak:
            self._excursions.append((now, peak))
        if not (interval.open or model.open):
            if was_open:
                self.episodes.closed(watched.stream.key, now)
            return
        if interval_change == "opened" or (interval.open and (interval_nats > 0 or was_overdue)):
            bus.disturbed_ns = now + self._join_ns
            sighting = self._interval_sighting(watched, score, now, deviation)
        elif model_change == "opened" or (model.open and model_nats > self._cal.drift_nats):
            sighting = self._model_sighting(watched, score, now, delta_nats, name_nats)
        else:
            return
        tell = self.episodes.continued if was_open else self.episodes.opened
        events += tell(sighting, expires_ns=now + watched.expiry_ns)

    def _surprise(self, pdu: PduCalibration, score: LineScore) -> tuple[float, float]:
        """Rarity of the surprisal of delta time and name, 0 where it is ordinary."""
        if score.warming:
            return 0.0, 0.0
        delta_nats = name_nats = 0.0
        delta, name = score.field_nats[FIELD_DELTA], score.field_nats[FIELD_NAME]
        if delta > pdu.delta_onset_nats and "delta" in self._evidence:
            delta_nats = self._cal.delta.rarity((delta - pdu.delta_onset_nats) / pdu.delta_scale_nats)
        if name > pdu.name_onset_nats and "name" in self._evidence:
            name_nats = self._cal.name.rarity((name - pdu.name_onset_nats) / pdu.name_scale_nats)
        return delta_nats, name_nats

    def _interval_sighting(
        self, watched: _Watched, score: LineScore, now: int, deviation: Deviation | None
    ) -> Sighting:
        pdu, delta = watched.cal, score.line.delta_ns or 0
        # A line that ends a silence is late even where its interval stays inside a later reading's bounds.
        deviation = deviation or Deviation("late", 1, delta, 0.0)
        nats = watched.interval.peak_nats
        start = now
        if deviation.side == "late" and deviation.intervals == 1:
            start = min(now, now - deviation.span_ns + pdu.cycle_ns)
        reason = interval_reason(
            pdu, deviation, self._cal.interval_alarms_per_hour(nats + self._cal.drift_nats)
        )
        return self._seen(watched, score, start, deviation.side, "deltaTime", nats, reason, model=False)

    def _model_sighting(
        self, watched: _Watched, score: LineScore, now: int, delta_nats: float, name_nats: float
    ) -> Sighting:
        pdu, line = watched.cal, score.line
        evidence: Evidence = "order"
        column = FIELD_NAME
        if delta_nats >= name_nats:
            column = FIELD_DELTA
            late = (line.delta_ns or 0) >= pdu.cycle_ns
            evidence = "field" if not pdu.cycle_ns else "late" if late else "early"
        expected = self._expectation(score.expected[column], line.stream)
        nats = watched.model.peak_nats
        reason = surprise_reason(
            pdu,
            FIELDS[column],
            line.delta_ns,
            expected,
            score.field_nats[column],
            self._cal.model_peaks.false_alarms_per_hour(nats),
        )
        return self._seen(watched, score, now, evidence, FIELDS[column], nats, reason, model=True)

    def _seen(
        self,
        watched: _Watched,
        score: LineScore,
        start_ns: int,
        evidence: Evidence,
        field: str,
        nats: float,
        reason: str,
        *,
        model: bool,
    ) -> Sighting:
        threshold = self._thresholds.model_nats if model else self._thresholds.interval_nats
        return Sighting(
            stream=watched.stream,
            time_ns=max(self._now, score.line.time_ns),
            start_ns=start_ns,
            line=score.line,
            evidence=evidence,
            fields=[field],
            rarity_nats=nats,
            threshold_nats=threshold,
            reason=reason,
            perplexity=None if score.warming else score.perplexity,
            surprisal_nats=None if score.warming else score.surprisal_nats,
        )

    # What does not come.

    def _set_deadline(self, watched: _Watched) -> None:
        assert watched.intervals is not None
        if "deadline" not in self._evidence:
            return
        at = watched.intervals.overdue_ns(self._overdue_cycles)
        if at is not None:
            self._order += 1
            heapq.heappush(self._deadlines, (at, self._order, watched))

    def _overdue(self, watched: _Watched, at: int, events: list[Event]) -> None:
        intervals = watched.intervals
        assert intervals is not None
        if intervals.overdue_ns(self._overdue_cycles) != at and intervals.last_ns is not None:
            return  # it came in the meantime
        if watched.overdue:
            return
        watched.overdue = True
        self._buses[watched.cal.source].overdue += 1
        cal = watched.cal
        threshold = self._thresholds.interval_nats
        watched.interval.step(threshold + self._cal.drift_nats)
        nats = watched.interval.peak_nats
        last = intervals.last_ns
        per_hour = self._cal.interval_alarms_per_hour(nats + self._cal.drift_nats)
        reason = overdue_reason(cal, None if last is None else at - last, per_hour)
        start = at if last is None else last + cal.cycle_ns
        sighting = Sighting(
            watched.stream,
            at,
            start,
            None,
            "missing",
            ["deltaTime"],
            nats,
            threshold,
            reason,
            since_frame=watched.last_frame,
        )
        if self.episodes.is_open(watched.stream.key):
            events += self.episodes.continued(sighting, expires_ns=None)
        else:
            events += self.episodes.opened(sighting, "silence", expires_ns=None)

    def _bus_silent(self, bus: _Bus, at: int, events: list[Event]) -> None:
        if "deadline" not in self._evidence:
            return
        bus.silent = True
        threshold = self._thresholds.interval_nats
        silent = duration(at - bus.last_ns)
        reason = f"nothing at all came on {bus.stream.source} for {silent}"
        reason += f", the longest pause of clean traffic is {duration(bus.pause_ns)}"
        sighting = Sighting(bus.stream, at, bus.last_ns, None, "missing", [], threshold, threshold, reason)
        events += self.episodes.opened(sighting, "silence", expires_ns=None)

    # What comes for the first time.

    def _start_bus(self, source: str, now: int) -> _Bus:
        bus = self._buses[source] = _Bus(source, self._pauses.get(source, _PAUSE_FLOOR_NS))
        bus.last_ns = now
        for pdu in self._cal.pdus:
            # A PDU that never comes at all is overdue like any other, counted from the bus's first line.
            if pdu.source == source and pdu.cycle_ns and "deadline" in self._evidence:
                stream = Stream(-1, pdu.key, pdu.name, source, "", 0, "", 0)
                watched = self._by_key.setdefault(pdu.key, self._new_watched(pdu, stream))
                at = now + pdu.longest_ns[0] + round(max(self._overdue_cycles, 2) * pdu.cycle_ns)
                self._order += 1
                heapq.heappush(self._deadlines, (at, self._order, watched))
        return bus

    def _new_watched(self, cal: PduCalibration, stream: Stream) -> _Watched:
        return _Watched(cal, stream, self._thresholds, self._cal.drift_nats, self._overdue_cycles)

    def _watch(self, stream: Stream) -> _Watched | None:
        cal = self._of_key.get(stream.key)
        if cal is None:
            return None
        watched = self._by_key.setdefault(stream.key, self._new_watched(cal, stream))
        watched.stream = stream
        self._watched += [None] * (stream.index + 1 - len(self._watched))
        self._watched[stream.index] = watched
        return watched

    def _unknown_pdu(self, line: Line, now: int) -> list[Event]:
        stream = line.stream
        reason = (
            f"{stream.name} from {stream.src}:{stream.sport} to {stream.dst}:{stream.dport} came, "
            "which was never seen in training traffic"
        )
        sighting = Sighting(stream, now, now, line, "unknown", ["pduName"], 0.0, 0.0, reason)
        return self.episodes.unknown_pdu(sighting)
