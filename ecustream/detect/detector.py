"""Scores in, events out: all evidence about every PDU of a run, in capture time."""

import heapq
from collections.abc import Callable, Iterable

from ecustream.detect.calibration import Calibration, PduCalibration
from ecustream.detect.debounce import Debounce
from ecustream.detect.episodes import Episodes, Sighting
from ecustream.detect.intervals import Deviation
from ecustream.detect.reasons import interval_reason, overdue_reason, surprise_reason
from ecustream.detect.thresholds import Thresholds
from ecustream.detect.watched import Bus, Watched
from ecustream.events import Event, Evidence
from ecustream.scores import FIELD_DELTA, FIELD_NAME, FIELDS, LineScore
from ecustream.traffic import STATE_INIT, Line, Stream
from ecustream.units import duration

__all__ = ["ALL_EVIDENCE", "Detector", "Expectation", "Thresholds"]

ALL_EVIDENCE = frozenset({"interval", "deadline", "delta", "name"})
"""Kinds of evidence that can be used alone or together; `Detector` uses all by default."""

Expectation = Callable[[int, Stream], str | None]
"""Says in words what a token means that the model expected, for a line of a stream."""

_DISTURBED_NS = 10_000_000_000
"""So long after a PDU went missing the model may still be puzzled by it; after that it counts again."""


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
        self._watched: list[Watched | None] = []
        self._by_key: dict[str, Watched] = {}
        self._unknown: set[str] = set()
        self._buses: dict[str, Bus] = {}
        self._pauses = {bus.source: bus.longest_pause_ns for bus in calibration.buses}
        # (time, order, PDU): an entry counts only if it still is that PDU's own deadline.
        self._deadlines: list[tuple[int, int, Watched]] = []
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
            bus = self._buses.get(line.stream.source) or self._start_bus(line.stream.source, now)
            if bus.silent:
                bus.silent = False
                self.episodes.closed(bus.stream.key, now, lasted=True)
            bus.last_ns = now
            if bus.initialized == (line.state == STATE_INIT):
                self._change_state(bus, now)
            index = line.stream.index
            watched = self._watched[index] if index < len(self._watched) else None
            if watched is None:
                watched = self._watch(line.stream)
                if watched is None:
                    if line.stream.key not in self._unknown:
                        self._unknown.add(line.stream.key)
                        events += self._unknown_pdu(line, now)
                    continue
            self._judge(watched, bus, score, now, events)
        return events

    def advance(self, time_ns: int, events: list[Event] | None = None) -> list[Event]:
        """Let capture time pass without lines; what falls due on the way is told in order of time."""
        events = [] if events is None else events
        deadlines = self._deadlines
        while True:
            silent = min(self._buses.values(), key=lambda bus: bus.silent_ns, default=None)
            silent_ns = time_ns if silent is None else silent.silent_ns
            overdue_ns = deadlines[0][0] if deadlines else time_ns
            told_ns = self.episodes.due_ns
            if told_ns is not None and told_ns <= min(silent_ns, overdue_ns, time_ns):
                events += self.episodes.advance(told_ns)
            elif silent is not None and silent_ns <= overdue_ns and silent_ns < time_ns:
                self._bus_silent(silent, silent_ns, events)
            elif overdue_ns < time_ns:
                at, _, watched = heapq.heappop(deadlines)
                if watched.deadline_ns == at:
                    self._overdue(watched, at, events)
            else:
                break
        self._now = max(self._now, time_ns)
        return events

    def gap(self, time_ns: int, source: str, why: str) -> list[Event]:
        """The capture lost something before `time_ns`: forget all history, judge nothing across it."""
        events = self.episodes.finish(self._now) if self._now else []
        for watched in self._by_key.values():
            watched.forget()
        start = self._now or time_ns
        self._now = time_ns
        for bus in self._buses.values():
            bus.silent, bus.last_ns, bus.overdue = False, time_ns, 0
            bus.since = "since the gap in the capture"
            if bus.initialized:
                self._expect_all(bus, time_ns)
        return events + self.episodes.capture_gap(start, time_ns, source, why)

    def finish(self) -> list[Event]:
        """The traffic ends here; open episodes close."""
        return self.episodes.finish(self._now)

    # One line.

    def _judge(self, watched: Watched, bus: Bus, score: LineScore, now: int, events: list[Event]) -> None:
        deviation, interval_nats = None, 0.0
        if watched.intervals is not None and bus.initialized:
            deviation = watched.intervals.arrive(now)
            if deviation is not None and "interval" in self._evidence:
                interval_nats = self._cal.interval.rarity(deviation.excess_cycles)
            self._set_deadline(watched)
        was_overdue, watched.overdue = watched.overdue, False
        if was_overdue:
            bus.overdue = max(0, bus.overdue - 1)
            if not bus.overdue:
                bus.disturbed_ns = now + self._join_ns
        watched.last_frame = score.line.frame
        delta_nats, name_nats = self._surprise(watched.cal, score)
        if now < bus.disturbed_ns:
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
            bus.disturbed_ns = max(bus.disturbed_ns, now + self._join_ns)
            sighting = self._interval_sighting(watched, score, now, deviation)
        elif model_change == "opened" or (model.open and model_nats > self._cal.drift_nats):
            sighting = self._model_sighting(watched, score, now, delta_nats, name_nats)
        else:
            return
        tell = self.episodes.continued if was_open else self.episodes.opened
        events += tell(sighting, expires_ns=now + watched.expiry_ns)

    def _surprise(self, pdu: PduCalibration, score: LineScore) -> tuple[float, float]:
        """Rarity of the surprisal of delta time and name, 0 where it is ordinary.

        Calibration may find a model too sure of itself, never too unsure: no line is rarer than the
        probability that the model itself gave it.
        """
        if score.warming:
            return 0.0, 0.0
        delta_nats = name_nats = 0.0
        delta, name = score.field_nats[FIELD_DELTA], score.field_nats[FIELD_NAME]
        if delta > pdu.delta_onset_nats and "delta" in self._evidence:
            excess = (delta - pdu.delta_onset_nats) / pdu.delta_scale_nats
            delta_nats = min(delta, self._cal.delta.rarity(excess))
        if name > pdu.name_onset_nats and "name" in self._evidence:
            excess = (name - pdu.name_onset_nats) / pdu.name_scale_nats
            name_nats = min(name, self._cal.name.rarity(excess))
        return delta_nats, name_nats

    def _interval_sighting(
        self, watched: Watched, score: LineScore, now: int, deviation: Deviation | None
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
        self, watched: Watched, score: LineScore, now: int, delta_nats: float, name_nats: float
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
        watched: Watched,
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

    def _set_deadline(self, watched: Watched) -> None:
        assert watched.intervals is not None
        if "deadline" in self._evidence:
            at = watched.intervals.overdue_ns(self._overdue_cycles)
            if at is not None:
                self._expect(watched, at)

    def _expect(self, watched: Watched, at: int) -> None:
        watched.deadline_ns = at
        self._order += 1
        heapq.heappush(self._deadlines, (at, self._order, watched))

    def _overdue(self, watched: Watched, at: int, events: list[Event]) -> None:
        intervals = watched.intervals
        assert intervals is not None
        bus = self._buses[watched.stream.source]
        watched.overdue, watched.deadline_ns = True, None
        bus.overdue += 1
        bus.disturbed_ns = at + _DISTURBED_NS
        cal = watched.cal
        threshold = self._thresholds.interval_nats
        watched.interval.step(threshold + self._cal.drift_nats)
        nats = watched.interval.peak_nats
        last = intervals.last_ns
        per_hour = self._cal.interval_alarms_per_hour(nats + self._cal.drift_nats)
        silent_ns = None if last is None else at - last
        reason = overdue_reason(cal, silent_ns, bus.since, per_hour)
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
            part_of = bus.stream.key if bus.silent else None
            events += self.episodes.opened(sighting, "silence", part_of=part_of)

    def _bus_silent(self, bus: Bus, at: int, events: list[Event]) -> None:
        bus.silent = True
        if "deadline" not in self._evidence or bus.pause_ns is None:
            return
        threshold = self._thresholds.interval_nats
        silent = duration(at - bus.last_ns)
        reason = f"nothing at all came on {bus.stream.source} for {silent}"
        reason += f", the longest pause of clean traffic is {duration(bus.pause_ns)}"
        sighting = Sighting(bus.stream, at, bus.last_ns, None, "missing", [], threshold, threshold, reason)
        events += self.episodes.opened(sighting, "silence", expires_ns=None)

    # What comes for the first time.

    def _start_bus(self, source: str, now: int) -> Bus:
        bus = self._buses[source] = Bus(source, self._pauses.get(source), now)
        self._expect_all(bus, now)
        return bus

    def _expect_all(self, bus: Bus, now: int) -> None:
        """A PDU that never comes at all is overdue like any other, counted from the bus's first line."""
        if "deadline" not in self._evidence:
            return
        source = bus.stream.source
        for pdu in self._cal.pdus:
            if pdu.source == source and pdu.cycle_ns:
                watched = self._by_key.get(pdu.key)
                if watched is None:
                    watched = self._new_watched(pdu, Stream(-1, pdu.key, pdu.name, source, "", 0, "", 0))
                slack = round(max(self._overdue_cycles, 2) * pdu.cycle_ns)
                self._expect(watched, now + pdu.longest_ns[0] + slack)

    def _change_state(self, bus: Bus, now: int) -> None:
        """The vehicle leaves or enters "not initialized", in which nothing is expected of any PDU."""
        bus.initialized = not bus.initialized
        if bus.initialized:
            bus.since = "since the start-up"
            self._expect_all(bus, now)
            return
        bus.overdue = 0
        for watched in self._by_key.values():
            if watched.stream.source == bus.stream.source:
                watched.forget()
                self.episodes.closed(watched.stream.key, now)

    def _new_watched(self, cal: PduCalibration, stream: Stream) -> Watched:
        drift = self._cal.drift_nats
        watched = self._by_key[cal.key] = Watched(
            cal,
            stream,
            Debounce(self._thresholds.interval_nats, drift, overlap=2),
            Debounce(self._thresholds.model_nats, drift, adapt=True),
            self._overdue_cycles,
        )
        return watched

    def _watch(self, stream: Stream) -> Watched | None:
        cal = self._of_key.get(stream.key)
        if cal is None:
            return None
        watched = self._by_key.get(stream.key) or self._new_watched(cal, stream)
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
