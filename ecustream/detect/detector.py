"""Scores in, events out: all evidence about every PDU of a run, in capture time."""

from collections.abc import Callable, Iterable, Sequence

from ecustream.detect.calibration import Calibration, PduCalibration
from ecustream.detect.deadlines import Deadlines
from ecustream.detect.debounce import Debounce
from ecustream.detect.episodes import Episodes
from ecustream.detect.intervals import Deviation
from ecustream.detect.sightings import Expectation, Sightings, unknown_pdu
from ecustream.detect.thresholds import Thresholds
from ecustream.detect.watched import NEVER_NS, Bus, Watched
from ecustream.events import Event
from ecustream.scores import FIELD_DELTA, FIELD_NAME, LineScore, ScoreBlock
from ecustream.traffic import STATE_INIT, Line, Stream

__all__ = ["ALL_EVIDENCE", "Detector", "Expectation", "Thresholds"]

ALL_EVIDENCE = frozenset({"interval", "deadline", "delta", "name"})
"""Kinds of evidence that can be used alone or together; `Detector` uses all by default."""

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
        since: since when a PDU that never came is missed, in words.
    """

    def __init__(
        self,
        calibration: Calibration,
        thresholds: Thresholds,
        join_ns: int = 500_000_000,
        expectation: Expectation = lambda token, stream: None,
        evidence: frozenset[str] = ALL_EVIDENCE,
        excursions: list[tuple[int, float]] | None = None,
        since: str = "in this run",
    ) -> None:
        self._cal = calibration
        self._thresholds = thresholds
        self._evidence = evidence
        self._excursions = excursions
        self._since = since
        self._of_key = {pdu.key: pdu.using(evidence) for pdu in calibration.pdus}
        # By Stream.index; the PDU is None where it is not known.
        self._slots: list[tuple[Watched | None, Bus] | None] = []
        self._by_key: dict[str, Watched] = {}
        self._unknown: set[str] = set()
        self._buses: dict[str, Bus] = {}
        self._pauses = {bus.source: bus.longest_pause_ns for bus in calibration.buses}
        self._deadlines = Deadlines()
        self._sightings = Sightings(calibration, thresholds, expectation)
        self._overdue_cycles = max(
            calibration.interval.excess(thresholds.interval_nats + calibration.drift_nats), 1e-6
        )
        self._now = 0
        # Up to then `advance` has nothing to tell; 0 where that is not known.
        self._quiet_until_ns = 0
        self._join_ns = join_ns
        self.episodes = Episodes(join_ns)

    def step(self, scores: Iterable[LineScore]) -> list[Event]:
        """Take scored lines in order; the events that they bring about."""
        scores = list(scores)
        return self._step(
            [score.line for score in scores],
            [score.field_nats[FIELD_DELTA] for score in scores],
            [score.field_nats[FIELD_NAME] for score in scores],
            [score.warming for score in scores],
            scores.__getitem__,
        )

    def step_block(self, block: ScoreBlock) -> list[Event]:
        """The same as `step` with the rows of a block, made only where something is conspicuous."""
        return self._step(
            block.lines,
            block.field_nats[:, FIELD_DELTA].tolist(),
            block.field_nats[:, FIELD_NAME].tolist(),
            block.warming.tolist(),
            block.row,
        )

    def _step(
        self,
        lines: Sequence[Line],
        deltas: Sequence[float],
        names: Sequence[float],
        warming: Sequence[bool],
        score_of: Callable[[int], LineScore],
    ) -> list[Event]:
        events: list[Event] = []
        slots = self._slots
        uses_deadlines = "deadline" in self._evidence
        for i, line in enumerate(lines):
            now = line.time_ns
            if now <= self._now:
                now = self._now
            elif now <= self._quiet_until_ns:
                self._now = now
            else:
                self.advance(now, events)
            index = line.stream.index
            slot = slots[index] if index < len(slots) else None
            watched, bus = slot or self._first_line(line, now, events)
            if bus.silent or bus.initialized == (line.state == STATE_INIT):
                self._change_bus(bus, line, now)
            bus.last_ns = now
            if watched is None:
                continue
            deviation = None
            if watched.intervals is not None and bus.initialized:
                deviation = watched.intervals.arrive(now)
                if uses_deadlines:
                    # Only a line that was odd gives the next one more time.
                    late_ns = now + watched.allowance_ns
                    if deviation is not None:
                        late_ns = watched.intervals.overdue_ns(self._overdue_cycles) or late_ns
                    self._deadlines.set(watched, late_ns)
                    if late_ns < self._quiet_until_ns:
                        self._quiet_until_ns = late_ns
            watched.last_frame = line.frame
            delta_nats = name_nats = 0.0
            cal = watched.cal
            delta, name = deltas[i], names[i]
            if (
                (delta > cal.delta_onset_nats or name > cal.name_onset_nats)
                and not warming[i]
                and (now >= bus.disturbed_ns or watched.overdue)
            ):
                delta_nats, name_nats = self._cal.model_rarity_nats(cal, delta, name)
            model = watched.model
            if (
                deviation is None
                and not watched.overdue
                and delta_nats == name_nats == 0.0 == model.sum_nats
                and not model.open
                and watched.interval.idle
            ):
                model.rest()
            else:
                self._judge(watched, bus, now, deviation, delta_nats, name_nats, score_of, i, events)
        return events

    def advance(self, time_ns: int, events: list[Event] | None = None) -> list[Event]:
        """Let capture time pass without lines; what falls due on the way is told in order of time."""
        events = [] if events is None else events
        while True:
            silent_ns, silent = NEVER_NS, None
            for bus in self._buses.values():
                if bus.silent_ns < silent_ns:
                    silent_ns, silent = bus.silent_ns, bus
            overdue_ns = self._deadlines.soonest_ns()
            told_ns = self.episodes.due_ns
            if told_ns is not None and told_ns <= min(silent_ns, overdue_ns, time_ns):
                events += self.episodes.advance(told_ns)
            elif silent is not None and silent_ns <= overdue_ns and silent_ns < time_ns:
                self._bus_silent(silent, silent_ns, events)
            elif overdue_ns < time_ns:
                self._overdue(self._deadlines.pop(), overdue_ns, events)
            else:
                break
        self._now = max(self._now, time_ns)
        self._quiet_until_ns = min(silent_ns, overdue_ns, NEVER_NS if told_ns is None else told_ns - 1)
        return events

    @property
    def now_ns(self) -> int:
        """Capture time up to which everything was judged; 0 before anything was."""
        return self._now

    def began(self, source: str, time_ns: int, since: str = "since the capture began") -> list[Event]:
        """The capture of a bus began at `time_ns`, so that its silence can be told before its first line.

        A bus that was heard already did not begin; of one that the calibration does not know nothing is
        expected.
        """
        if source in self._buses:
            return []
        events = self.advance(time_ns)
        pause_ns = self._pauses.get(source)
        self._buses[source] = Bus(source, pause_ns, self._now, heard=False, since=since)
        self._quiet_until_ns = 0
        return events

    def gap(self, time_ns: int, source: str, why: str) -> list[Event]:
        """The capture lost something before `time_ns`: forget all history, judge nothing across it."""
        events = self.finish("at the gap in the capture") if self._now else []
        for watched in self._by_key.values():
            watched.forget()
        start = self._now or time_ns
        self._now, self._quiet_until_ns = time_ns, 0
        for bus in self._buses.values():
            bus.silent, bus.last_ns, bus.overdue = False, time_ns, 0
            # What is left of it; the clock may have been set back.
            bus.disturbed_ns = min(bus.disturbed_ns, time_ns + max(0, bus.disturbed_ns - start))
            bus.since = "since the gap in the capture"
            if bus.initialized and bus.heard:
                self._expect_all(bus, time_ns)
        return events + self.episodes.capture_gap(start, time_ns, source, why)

    def open_events(self, time_ns: int) -> list[Event]:
        """What is open at `time_ns`, an `open` event each, where those until then were thrown away.

        This is how a detector takes over from another one: it takes the recent lines again, and says then
        under its own ids what is open. The other one ends with `finish`.
        """
        self.advance(time_ns)
        return self.episodes.open_events(self._now)

    def finish(self, still: str = "at the end") -> list[Event]:
        """The traffic ends here; open episodes close, what lasts with words for when it was `still` so."""
        return self.episodes.finish(self._now, still)

    # One line.

    def _judge(
        self,
        watched: Watched,
        bus: Bus,
        now: int,
        deviation: Deviation | None,
        delta_nats: float,
        name_nats: float,
        score_of: Callable[[int], LineScore],
        i: int,
        events: list[Event],
    ) -> None:
        """Take line `i`, which is or may be conspicuous: how its interval deviates, how rare its nats are."""
        interval_nats = 0.0
        if deviation is not None and "interval" in self._evidence:
            interval_nats = self._cal.interval.rarity(deviation.excess_cycles)
        was_overdue, watched.overdue = watched.overdue, False
        if was_overdue:
            bus.overdue = max(0, bus.overdue - 1)
            if not bus.overdue:
                bus.disturbed_ns = now + self._join_ns
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
        if was_overdue:
            self.episodes.over(watched.stream.key, self._sightings.back(watched, bus, now))
        if self._excursions is not None and model.peak_nats == 0.0 < peak:
            self._excursions.append((now, peak))
        if not (interval.open or model.open):
            if was_open:
                self.episodes.closed(watched.stream.key, now)
                self._quiet_until_ns = 0
            return
        if interval_change == "opened" or (interval.open and (interval_nats > 0 or was_overdue)):
            bus.disturbed_ns = max(bus.disturbed_ns, now + self._join_ns)
            sighting = self._sightings.interval(watched, score_of(i), now, deviation)
        elif model_change == "opened" or (model.open and model_nats > self._cal.drift_nats):
            sighting = self._sightings.model(watched, score_of(i), now, delta_nats, name_nats)
        else:
            return
        tell = self.episodes.continued if was_open else self.episodes.opened
        events += tell(sighting, expires_ns=now + watched.expiry_ns)
        self._quiet_until_ns = 0

    # What does not come.

    def _overdue(self, watched: Watched, at: int, events: list[Event]) -> None:
        bus = self._buses[watched.stream.source]
        watched.overdue = True
        watched.silent_since_ns = None if watched.intervals is None else watched.intervals.last_ns
        bus.overdue += 1
        bus.disturbed_ns = at + _DISTURBED_NS
        watched.interval.step(self._thresholds.interval_nats + self._cal.drift_nats)
        sighting = self._sightings.overdue(watched, bus, at)
        if self.episodes.is_open(watched.stream.key):
            events += self.episodes.continued(sighting, expires_ns=None)
        else:
            part_of = bus.stream.key if bus.silent else None
            events += self.episodes.opened(sighting, "silence", part_of=part_of)

    def _bus_silent(self, bus: Bus, at: int, events: list[Event]) -> None:
        bus.silent = True
        if "deadline" in self._evidence and bus.pause_ns is not None:
            sighting = self._sightings.silent(bus, bus.pause_ns, at)
            events += self.episodes.opened(sighting, "silence", expires_ns=None)

    # What comes for the first time.

    def _expect_all(self, bus: Bus, now: int) -> None:
        """A PDU that never comes at all is overdue like any other, counted from the bus's first line."""
        if "deadline" not in self._evidence:
            return
        source = bus.stream.source
        for pdu in self._of_key.values():
            if pdu.source == source and pdu.cycle_ns:
                watched = self._by_key.get(pdu.key)
                if watched is None:
                    watched = self._new_watched(pdu, Stream(-1, pdu.key, pdu.name, source, "", 0, "", 0))
                slack = round(max(self._overdue_cycles, 2) * pdu.cycle_ns)
                self._deadlines.set(watched, now + pdu.longest_ns[0] + slack)
        self._quiet_until_ns = 0

    def _change_bus(self, bus: Bus, line: Line, now: int) -> None:
        """A line ends a silence of its bus, or its vehicle leaves or enters "not initialized"."""
        if bus.silent:
            self._bus_back(bus, now)
        if bus.initialized == (line.state == STATE_INIT):
            self._change_state(bus, now)

    def _bus_back(self, bus: Bus, now: int) -> None:
        bus.silent = False
        self.episodes.over(bus.stream.key, self._sightings.resumed(bus, bus.pause_ns or 0, now))
        self.episodes.closed(bus.stream.key, now, lasted=True)
        self._quiet_until_ns = 0

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
        self._quiet_until_ns = 0

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

    def _first_line(self, line: Line, now: int, events: list[Event]) -> tuple[Watched | None, Bus]:
        """The first line of a stream: which PDU it is, None where it is not known, and its bus."""
        stream = line.stream
        bus = self._buses.get(stream.source)
        if bus is None or not bus.heard:
            if bus is not None and bus.silent:
                self._bus_back(bus, now)
            # What was waited for has no part in how the bus is judged from now on.
            pause_ns = self._pauses.get(stream.source)
            bus = self._buses[stream.source] = Bus(stream.source, pause_ns, now, since=self._since)
            self._expect_all(bus, now)
        if bus.silent or bus.initialized == (line.state == STATE_INIT):
            self._change_bus(bus, line, now)
        cal = self._of_key.get(stream.key)
        watched = None
        if cal is not None:
            watched = self._by_key.get(stream.key) or self._new_watched(cal, stream)
            watched.stream = stream
        elif stream.key not in self._unknown:
            self._unknown.add(stream.key)
            events += self.episodes.unknown_pdu(unknown_pdu(line, now))
            self._quiet_until_ns = 0
        self._slots += [None] * (stream.index + 1 - len(self._slots))
        self._slots[stream.index] = watched, bus
        return watched, bus
