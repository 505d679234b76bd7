"""What evidence about a PDU or a bus tells: time, field and reason of each kind of sighting."""

from collections.abc import Callable

from ecustream.detect.calibration import Calibration
from ecustream.detect.episodes import Over, Sighting
from ecustream.detect.intervals import Deviation
from ecustream.detect.reasons import (
    back_reason,
    interval_reason,
    overdue_reason,
    pause_reason,
    surprise_reason,
)
from ecustream.detect.thresholds import Thresholds
from ecustream.detect.watched import Bus, Watched
from ecustream.events import Evidence
from ecustream.scores import FIELD_DELTA, FIELD_NAME, FIELDS, LineScore
from ecustream.traffic import Line, Stream

__all__ = ["Expectation", "Sightings", "unknown_pdu"]

Expectation = Callable[[int, Stream], str | None]
"""Says in words what a token means that the model expected, for a line of a stream."""


class Sightings:
    """Writes sightings down in the words and numbers of a calibration.

    Args:
        calibration: learned from clean traffic.
        thresholds: what the evidence had to exceed.
        expectation: words for a token.
    """

    def __init__(self, calibration: Calibration, thresholds: Thresholds, expectation: Expectation) -> None:
        self._cal = calibration
        self._thresholds = thresholds
        self._expectation = expectation

    def interval(self, watched: Watched, score: LineScore, now: int, deviation: Deviation | None) -> Sighting:
        """A line that came at an odd time."""
        pdu, delta = watched.cal, score.line.delta_ns or 0
        # A line that ends a silence is late even where its interval stays inside a later reading's bounds.
        deviation = deviation or Deviation("late", 1, delta, 0.0)
        start = now
        if deviation.side == "late" and deviation.intervals == 1:
            start = min(now, now - deviation.span_ns + pdu.cycle_ns)
        nats, per_hour = self._interval_rarity(watched)
        reason = interval_reason(pdu, deviation, per_hour)
        threshold = self._thresholds.interval_nats
        return _seen(watched, score, now, start, deviation.side, "deltaTime", nats, threshold, reason)

    def back(self, watched: Watched, bus: Bus, now: int) -> Over:
        """A PDU that was overdue and came."""
        last = watched.silent_since_ns
        silent_ns = None if last is None else now - last
        _, per_hour = self._interval_rarity(watched)
        reason = back_reason(watched.cal, silent_ns, bus.since, now, per_hour)
        return Over(reason, False, (silent_ns or 0) / watched.cal.cycle_ns)

    def _interval_rarity(self, watched: Watched) -> tuple[float, float]:
        """What the intervals of a PDU showed, and how often clean traffic shows that in an hour."""
        nats = watched.interval.peak_nats
        return nats, self._cal.interval_alarms_per_hour(nats + self._cal.drift_nats)

    def model(
        self, watched: Watched, score: LineScore, now: int, delta_nats: float, name_nats: float
    ) -> Sighting:
        """A line that the model found improbable, of the rarity `delta_nats` or `name_nats`."""
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
        threshold = self._thresholds.model_nats
        return _seen(watched, score, now, now, evidence, FIELDS[column], nats, threshold, reason)

    def overdue(self, watched: Watched, bus: Bus, at: int) -> Sighting:
        """A PDU that has not come by its deadline `at`."""
        assert watched.intervals is not None
        last = watched.intervals.last_ns
        nats, per_hour = self._interval_rarity(watched)
        silent_ns = None if last is None else at - last
        reason = overdue_reason(watched.cal, silent_ns, bus.since, per_hour)
        start = at if last is None else last + watched.cal.cycle_ns
        return Sighting(
            watched.stream,
            at,
            start,
            None,
            "missing",
            ["deltaTime"],
            nats,
            self._thresholds.interval_nats,
            reason,
            since_frame=watched.last_frame,
        )

    def silent(self, bus: Bus, pause_ns: int, at: int) -> Sighting:
        """A bus that has carried nothing until `at`, where clean traffic pauses for `pause_ns` at most."""
        threshold = self._thresholds.interval_nats
        since = None if bus.heard else bus.since
        reason = pause_reason(bus.stream.source, pause_ns, at - bus.last_ns, since, None)
        return Sighting(bus.stream, at, bus.last_ns, None, "missing", [], threshold, threshold, reason)

    def resumed(self, bus: Bus, pause_ns: int, now: int) -> Over:
        """A bus that was silent and carries something again from `now` on."""
        silent_ns = now - bus.last_ns
        since = None if bus.heard else bus.since
        return Over(pause_reason(bus.stream.source, pause_ns, silent_ns, since, now), True, silent_ns)


def unknown_pdu(line: Line, now: int) -> Sighting:
    """The first line of a PDU that is not known."""
    stream = line.stream
    reason = (
        f"{stream.name} from {stream.src}:{stream.sport} to {stream.dst}:{stream.dport} came, "
        "which was never seen in training traffic"
    )
    return Sighting(stream, now, now, line, "unknown", ["pduName"], 0.0, 0.0, reason)


def _seen(
    watched: Watched,
    score: LineScore,
    now: int,
    start_ns: int,
    evidence: Evidence,
    field: str,
    nats: float,
    threshold_nats: float,
    reason: str,
) -> Sighting:
    return Sighting(
        stream=watched.stream,
        time_ns=now,
        start_ns=start_ns,
        line=score.line,
        evidence=evidence,
        fields=[field],
        rarity_nats=nats,
        threshold_nats=threshold_nats,
        reason=reason,
        perplexity=None if score.warming else score.perplexity,
        surprisal_nats=None if score.warming else score.surprisal_nats,
    )
