"""A track: what is made of the lines of one lane, from scores to events."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ecustream.capture.breaks import Break
from ecustream.detect.calibration import Calibration
from ecustream.detect.detector import Detector
from ecustream.detect.perplexity import PerplexityFilter
from ecustream.errors import BundleError
from ecustream.events import Event
from ecustream.publish.messages import TraceStatus
from ecustream.run.lanes import Lane
from ecustream.run.model import Model
from ecustream.run.summary import RunSummary
from ecustream.scores import FIELDS, ScoreBlock
from ecustream.traffic import Line

if TYPE_CHECKING:
    from ecustream.scoring.scorer import ScoredStream

__all__ = ["Track"]

_KNOWN_AFTER_LINES = 200
_LEAST_KNOWN_SHARE = 0.1
_NO_MODEL = "no_model"
_SINCE = "since another model took over"
_SAME_CLOCK_NS = 2_000_000_000

Score = Callable[[Sequence[tuple["ScoredStream", Sequence[Line]]]], list[ScoreBlock] | None]


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
        recent_lines: how many of the last lines, or a chunk more, are kept for a model that takes over.

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
        recent_lines: int = 0,
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
        self._judged = 0
        self._finished = False
        self._recent: deque[list[Line]] = deque()
        self._recent_lines = recent_lines
        self._successions = 0

    @property
    def lag_ns(self) -> int:
        """Capture time by which judging is behind where the traffic should be by now."""
        behind_ns = self.lane.passed_ns - self.reached_ns if self.reached_ns else 0
        return max(0, behind_ns) + self.lane.late_capture_ns

    def status(self) -> TraceStatus:
        """How far it is."""
        return TraceStatus(
            trace=self.lane.name,
            lines=self._judged,
            lag_s=round(self.lag_ns / 1e9, 3),
            ended=self.lane.ring.closed_and_empty,
        )

    def gap(self, line: Line, why: str) -> list[Event]:
        """The stream is interrupted before `line`: it is scored and judged without what was before."""
        return self.interrupt(Break(line.time_ns, line.stream.source, why))

    def interrupt(self, broken: Break) -> list[Event]:
        """The stream is interrupted, whether or not a line follows."""
        self.stream.reset()
        self._recent.clear()
        self._last_ns = broken.time_ns
        return self._counted(self._detector.gap(*broken))

    def take(self, block: ScoreBlock) -> list[Event]:
        """Judge and count the next lines.

        Raises:
            BundleError: the bundle is of another vehicle.
        """
        self.lane.ledger.end("lines", "scored", len(block.lines))
        return self._judge(block)

    def take_unscored(self, lines: list[Line]) -> list[Event]:
        """Judge and count the next lines by their intervals alone, because there is no model.

        Raises:
            BundleError: as `take`.
        """
        self.lane.ledger.end("lines", "unscored", len(lines), reason=_NO_MODEL)
        return self._judge(_without_model(lines))

    def _judge(self, block: ScoreBlock) -> list[Event]:
        lines, summary = block.lines, self.summary
        events = [] if self._judged else self._set_clock(lines[0])
        if not summary.first_ns:
            summary.first_ns = lines[0].time_ns
        self._last_ns = self.reached_ns = max(self._last_ns, lines[-1].time_ns)
        self._judged += len(lines)
        self._keep(lines)
        summary.count(lines)
        if self._judged >= _KNOWN_AFTER_LINES and (refusal := self._refusal()):
            raise BundleError(refusal)
        return events + self._counted(self._detector.step_block(block))

    def _set_clock(self, first: Line) -> list[Event]:
        """The first line may be by another clock than that by which the capture began: a logger's."""
        known_ns = max(self._last_ns, self.reached_ns)
        if not known_ns or abs(first.time_ns - known_ns) < _SAME_CLOCK_NS:
            return []
        events = self._detector.gap(first.time_ns, first.stream.source, "")
        self._last_ns = first.time_ns
        return self._counted(event for event in events if event.kind != "capture_gap")

    def began(self, time_ns: int) -> list[Event]:
        """Capture begins at that time: the bus of an interface is silent if nothing comes from then on."""
        if self.lane.bus is None:
            return []
        self._last_ns = time_ns
        return self._counted(self._detector.began(self.lane.bus, time_ns))

    def recent(self) -> list[Line]:
        """The last lines since the stream was interrupted."""
        return [line for lines in self._recent for line in lines]

    def succeed(self, model: Model, score: Score) -> list[Event]:
        """Judge by another model from now on, which reads the recent lines first.

        What is open closes; what the new one finds still open opens again, with an id of its own.

        Args:
            model: the new one.
            score: has it score lines; gives None where it was lost already.
        """
        if self._finished:
            return []
        reached_ns = max(self._last_ns, self._detector.now_ns)
        events = self._counted(self._detector.finish("when another model took over"))
        stream, detector = model.open_stream(), model.new_detector(_SINCE)
        self.stream, self._detector, self._calibration = stream, detector, model.calibration
        self._successions += 1
        if self.lane.bus is not None and not self._recent:
            detector.began(self.lane.bus, reached_ns, _SINCE)
        for lines in self._recent:
            blocks = score([(stream, lines)])
            detector.step_block(_without_model(lines) if blocks is None else blocks[0])
        if reached_ns:
            events += self._counted(detector.open_events(reached_ns))
        return events

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
        if self.summary.first_ns:
            self.summary.traffic_s = (self._last_ns - self.summary.first_ns) / 1e9
        return events

    def _counted(self, events: Iterable[Event]) -> list[Event]:
        counted = list(events)
        # The detectors of one run number their episodes alike.
        ids = f"{self._ids}{self._successions}." if self._successions else self._ids
        for event in counted:
            event.id = ids + event.id
            if self.trace is not None:
                event.trace = self.trace
            self.summary.take(event)
        return counted

    def _keep(self, lines: list[Line]) -> None:
        if not self._recent_lines:
            return
        self._recent.append(lines)
        held = sum(map(len, self._recent))
        while held - len(self._recent[0]) >= self._recent_lines:
            held -= len(self._recent.popleft())

    def _refusal(self) -> str | None:
        """Why the bundle is of another vehicle; None where it is not, or where there was no line."""
        judged = self._judged
        if self.known or not judged:
            return None
        known_share = 1 - self.summary.unknown_lines / judged
        if known_share >= _LEAST_KNOWN_SHARE:
            self.known = True
            return None
        whose = "" if self.trace is None else f" of {self.trace}"
        seen = f"it knows {100 * known_share:.0f} % of the first {judged} lines{whose}"
        if (bus := self._other_bus()) is not None:
            return f"{self._model}: {seen}, but would if their bus were called {bus}: give --source {bus}"
        return (
            f"{self._model}: was made for another vehicle: {seen}; fit one with `python -m training fit`, "
            "or check --names and --source"
        )

    def _other_bus(self) -> str | None:
        """A bus of the bundle by whose name most lines would be known; None where there is none."""
        known = {pdu.key for pdu in self._calibration.pdus}
        seen = self.summary.pdus
        for bus in sorted({pdu.source for pdu in self._calibration.pdus}):
            by_that = sum(
                pdu.lines
                for key, pdu in seen.items()
                if key.replace(f"|{pdu.source}|", f"|{bus}|", 1) in known
            )
            if 2 * by_that > sum(pdu.lines for pdu in seen.values()):
                return bus
        return None


def _without_model(lines: list[Line]) -> ScoreBlock:
    """A block that says nothing about its lines."""
    count = len(lines)
    return ScoreBlock(
        lines,
        np.full((count, len(FIELDS)), np.nan, dtype=np.float32),
        np.ones(count, dtype=np.int64),
        np.full((count, len(FIELDS)), -1, dtype=np.int64),
        np.ones(count, dtype=np.bool_),
    )
