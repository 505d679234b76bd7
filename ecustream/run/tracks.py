"""A track: what is made of the lines of one lane, from scores to events."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ecustream.capture.breaks import Break
from ecustream.detect.calibration import Calibration
from ecustream.detect.detector import Detector
from ecustream.detect.perplexity import PerplexityFilter
from ecustream.errors import BundleError
from ecustream.events import Event
from ecustream.publish.messages import TraceStatus
from ecustream.run.lanes import Lane
from ecustream.run.summary import RunSummary
from ecustream.scores import ScoreBlock
from ecustream.traffic import Line

if TYPE_CHECKING:
    from ecustream.scoring.scorer import ScoredStream

__all__ = ["Track"]

_KNOWN_AFTER_LINES = 200
_LEAST_KNOWN_SHARE = 0.1


class Track:
    """Judges the scored lines of a lane and counts what was seen; one scored stream, one detector.

    Args:
        lane: where the lines come from.
        stream: the scorer's memory of them.
        detector: finds the episodes.
        calibration: of the bundle.
        model: the bundle's folder.
        ids: what the ids of its events begin with.
        trace: name that its events bear, None where there is only one trace.
        summary: what was seen.

    Attributes:
        reached_ns: capture time up to which everything was judged; 0 before the first line.
        known: whether it was found out that the bundle is of this vehicle.
        problem: why the bundle is not of this vehicle, where only the end of the lines has shown that.
    """

    def __init__(
        self,
        lane: Lane,
        stream: "ScoredStream",
        detector: Detector | PerplexityFilter,
        calibration: Calibration,
        model: Path,
        *,
        ids: str,
        trace: str | None,
        summary: RunSummary,
    ) -> None:
        self.lane = lane
        self.stream = stream
        self.trace = trace
        self.summary = summary
        self.reached_ns = 0
        self.known = False
        self.problem: str | None = None
        self._detector = detector
        self._calibration = calibration
        self._model = model
        self._ids = ids
        self._last_ns = 0
        self._finished = False

    @property
    def lag_ns(self) -> int:
        """Capture time by which judging is behind where the traffic should be by now."""
        behind_ns = self.lane.passed_ns - self.reached_ns if self.reached_ns else 0
        return max(0, behind_ns) + self.lane.late_capture_ns

    def status(self) -> TraceStatus:
        """How far it is."""
        return TraceStatus(
            trace=self.lane.name,
            lines=self._scored,
            lag_s=round(self.lag_ns / 1e9, 3),
            ended=self.lane.ring.closed_and_empty,
        )

    def gap(self, line: Line, why: str) -> list[Event]:
        """The stream is interrupted before `line`: it is scored and judged without what was before."""
        return self.interrupt(Break(line.time_ns, line.stream.source, why))

    def interrupt(self, broken: Break) -> list[Event]:
        """The stream is interrupted, whether or not a line follows."""
        self.stream.reset()
        self._last_ns = broken.time_ns
        return self._counted(self._detector.gap(*broken))

    def take(self, block: ScoreBlock) -> list[Event]:
        """Judge and count the next lines.

        Raises:
            BundleError: the bundle is of another vehicle.
        """
        lines, summary = block.lines, self.summary
        if not summary.first_ns:
            summary.first_ns = lines[0].time_ns
        self._last_ns = self.reached_ns = max(self._last_ns, lines[-1].time_ns)
        self.lane.ledger.end("lines", "scored", len(lines))
        summary.count(lines)
        if self._scored >= _KNOWN_AFTER_LINES and (refusal := self._refusal()):
            raise BundleError(refusal)
        return self._counted(self._detector.step_block(block))

    def idle(self, passed_ns: int) -> list[Event]:
        """No line came up to `passed_ns` that was not judged."""
        if self._finished or not passed_ns > self._last_ns > 0:
            return []
        self.reached_ns = max(self.reached_ns, passed_ns)
        return self._counted(self._detector.advance(passed_ns))

    def finish(self) -> list[Event]:
        """The traffic ends here; said again, there is nothing more."""
        if self._finished:
            return []
        self._finished = True
        events = self._counted(self._detector.finish())
        self.problem = self._refusal()
        self.summary.traffic_s = (self._last_ns - self.summary.first_ns) / 1e9
        return events

    def _counted(self, events: Iterable[Event]) -> list[Event]:
        counted = list(events)
        for event in counted:
            event.id = self._ids + event.id
            if self.trace is not None:
                event.trace = self.trace
            self.summary.take(event)
        return counted

    @property
    def _scored(self) -> int:
        return self.lane.ledger.ends["lines"]["scored"]

    def _refusal(self) -> str | None:
        """Why the bundle is of another vehicle; None where it is not, or where there was no line."""
        scored = self._scored
        if self.known or not scored:
            return None
        known_share = 1 - self.summary.unknown_lines / scored
        if known_share >= _LEAST_KNOWN_SHARE:
            self.known = True
            return None
        whose = "" if self.trace is None else f" of {self.trace}"
        return (
            f"{self._model}: was made for another vehicle: it knows {100 * known_share:.0f} % of the "
            f"first {scored} lines{whose}{self._other_buses()}; fit one with `python -m training fit`, "
            "or check --names and --source"
        )

    def _other_buses(self) -> str:
        known = {pdu.source for pdu in self._calibration.pdus}
        seen = {pdu.source for pdu in self.summary.pdus.values()}
        if seen <= known:
            return ""
        return f", and the bus {', '.join(sorted(known))} where the trace has {', '.join(sorted(seen))}"
