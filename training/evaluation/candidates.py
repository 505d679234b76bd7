"""The detector whole and in parts, the paper's filter, and the interval rule: machines that tell episodes."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ecustream.detect.calibration import Calibration
from ecustream.detect.detector import ALL_EVIDENCE, Detector, Thresholds
from ecustream.events import Event
from training.baselines import IntervalRule
from training.evaluation.paper_filter import PaperFilter
from training.evaluation.scored import Scored
from training.measures.intervals import Bools, Times
from training.metrics import Span

__all__ = [
    "DETECTOR",
    "PAPER_LINES",
    "PAPER_THRESHOLD",
    "Candidate",
    "Episode",
    "Running",
    "candidates",
    "told_lines",
]

DETECTOR = "ecustream"
PAPER_THRESHOLD, PAPER_LINES = 1.5, 3
_RULE_MARGINS = (0.05, 0.1, 0.2)

Machine = Detector | PaperFilter | IntervalRule


class Candidate(NamedTuple):
    """A way to detect: its name, and what makes a fresh machine for a trace."""

    name: str
    make: Callable[[], Machine]


class Episode(NamedTuple):
    """What was told: when, of which PDUs by name, and whether it is that a PDU is not known."""

    span: Span
    pdus: frozenset[str]
    unknown: bool


def candidates(calibration: Calibration, false_alarms_per_hour: float, join_ns: int) -> list[Candidate]:
    """The detector whole, every kind of evidence alone, the paper's filter, and the interval rule."""
    rows = [Candidate(DETECTOR, _detector(calibration, false_alarms_per_hour, join_ns, ALL_EVIDENCE))]
    parts: list[tuple[str, set[str]]] = [
        (f"only {kind}", {kind}) for kind in ("interval", "deadline", "delta", "name")
    ]
    parts += [("only model (delta, name)", {"delta", "name"}), ("without model", {"interval", "deadline"})]
    for name, evidence in parts:
        rows.append(
            Candidate(name, _detector(calibration, false_alarms_per_hour, join_ns, frozenset(evidence)))
        )
    rows += [
        Candidate(f"interval rule, margin {margin:g}", _rule(calibration, margin)) for margin in _RULE_MARGINS
    ]
    rows.append(
        Candidate(
            f"paper: perplexity > {PAPER_THRESHOLD}, {PAPER_LINES} lines",
            lambda: PaperFilter(PAPER_THRESHOLD, PAPER_LINES, join_ns),
        )
    )
    return rows


def _detector(
    calibration: Calibration, budget: float, join_ns: int, evidence: frozenset[str]
) -> Callable[[], Machine]:
    thresholds = Thresholds.for_budget(calibration, budget)
    return lambda: Detector(calibration, thresholds, join_ns, evidence=evidence)


def _rule(calibration: Calibration, margin: float) -> Callable[[], Machine]:
    return lambda: IntervalRule(calibration, margin)


class Running:
    """One machine on one trace."""

    def __init__(self, candidate: Candidate) -> None:
        self.name = candidate.name
        self._machine = candidate.make()
        self._events: list[Event] = []

    @property
    def names_pdus(self) -> bool:
        """Whether its episodes say which PDUs they are of."""
        return not isinstance(self._machine, IntervalRule)

    def feed(self, scored: Scored) -> None:
        """Take the next lines."""
        machine, lines = self._machine, scored.block.lines
        if isinstance(machine, IntervalRule):
            if scored.gap:
                machine.gap()
            machine.add(lines)
            return
        if isinstance(machine, PaperFilter):
            if scored.gap:
                machine.gap()
            machine.add(scored.block)
            return
        if scored.gap:
            self._events += machine.gap(lines[0].time_ns, lines[0].stream.source, scored.gap)
        self._events += machine.step_block(scored.block)

    def finish(self) -> list[Episode]:
        """Episodes of the trace, sorted by start; gaps in the capture are none."""
        machine = self._machine
        if isinstance(machine, IntervalRule):
            return [Episode(span, frozenset(), False) for span in machine.spans()]
        if isinstance(machine, PaperFilter):
            return [Episode(span, names, False) for span, names in machine.finish()]
        events = self._events + machine.finish()
        opened = {event.id: event.decided_ns for event in events if event.phase == "open"}
        return sorted(
            (
                Episode(
                    Span(event.start_ns, event.end_ns or event.decided_ns, opened[event.id]),
                    frozenset(pdu.name for pdu in event.pdus),
                    event.kind == "unknown_pdu",
                )
                for event in events
                if event.phase == "close" and event.kind != "capture_gap"
            ),
            key=lambda episode: episode.span,
        )


def told_lines(
    episodes: Sequence[Episode], times_ns: Times, names: Sequence[str], pdu: npt.NDArray[np.integer]
) -> Bools:
    """Lines that lie in an episode and are of one of its PDUs, shape (lines,).

    Args:
        episodes: what was told.
        times_ns: of the lines, sorted, shape (lines,).
        names: of PDUs, by number.
        pdu: number of each line's PDU, shape (lines,).
    """
    told = np.zeros(len(times_ns), np.bool_)
    for episode in episodes:
        first = int(np.searchsorted(times_ns, episode.span.start_ns))
        stop = int(np.searchsorted(times_ns, episode.span.end_ns, side="right"))
        numbers = [number for number, name in enumerate(names) if name in episode.pdus]
        told[first:stop] |= np.isin(pdu[first:stop], numbers)
    return told
