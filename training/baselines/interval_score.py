"""The interval rule as a score: by how many tolerances of clean traffic an interval is off.

The semantics are those of CANoe's cycle time check (a nominal cycle, a tolerance to either side, messages
without a cycle are not checked), with the tolerances learned instead of given.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from training.baselines.columns import Columns, Floats, Ints, Labelled
from training.baselines.episodes import join_by_bus
from training.baselines.occurrences import Occurrences
from training.baselines.rhythm import Rhythm, learn_rhythms
from training.metrics import Span

__all__ = ["IntervalScore"]

_LEAST_TOLERANCE = 0.05
_NEVER_NS = 2**62


class _Tolerance(NamedTuple):
    """How far one PDU's interval may be off; `early_ns` is None where it may be as short as it likes."""

    cycle_ns: int
    early_ns: float | None
    late_ns: float

    def scores(self, intervals_ns: Ints) -> Floats:
        """How many tolerances each interval is off."""
        late = (intervals_ns - self.cycle_ns) / self.late_ns
        early = 0.0 if self.early_ns is None else (self.cycle_ns - intervals_ns) / self.early_ns
        return np.maximum(np.maximum(late, early), 0.0)

    def deadline_ns(self, threshold: float) -> int:
        """How long after an occurrence the next one exceeds the threshold."""
        return min(_NEVER_NS, self.cycle_ns + int(min(threshold * self.late_ns, _NEVER_NS)))


class IntervalScore:
    """Distance of the interval to the cycle in tolerances; 1 is the worst of clean traffic.

    The tolerance to either side is the farthest interval of clean traffic, at least 5 % of the cycle. PDUs
    without a cycle, unknown ones, and a first occurrence score 0. It sees what comes late, early, twice or
    too often; of a swap of two PDUs, or a wrong value of another field, it sees nothing.
    """

    name = "interval rule"
    needs_labels = False

    def fit(self, clean: Sequence[Columns], labelled: Sequence[Labelled]) -> "FittedIntervals":
        """Learn cycles and tolerances.

        Raises:
            InputError: no PDU comes often enough.
        """
        return FittedIntervals(learn_rhythms(clean))


class FittedIntervals:
    """The tolerances of each PDU, by number."""

    def __init__(self, rhythms: Mapping[int, Rhythm]) -> None:
        self._tolerances = {pdu: _tolerance(rhythm) for pdu, rhythm in rhythms.items() if rhythm.cycle_ns > 0}

    def begin(self) -> "IntervalScoring":
        """A fresh scoring."""
        return IntervalScoring(self._tolerances)

    def watch(self, threshold: float, sources: Sequence[str]) -> "IntervalWatch":
        """A fresh watch; `sources` are the buses of the PDUs by number."""
        return IntervalWatch(self._tolerances, threshold, sources)


def _tolerance(rhythm: Rhythm) -> _Tolerance:
    least = _LEAST_TOLERANCE * rhythm.cycle_ns
    early = None if not rhythm.shortest_ns else max(rhythm.cycle_ns - rhythm.shortest_ns, least)
    return _Tolerance(rhythm.cycle_ns, early, max(rhythm.longest_ns - rhythm.cycle_ns, least))


class IntervalScoring:
    """Scores one trace."""

    def __init__(self, tolerances: Mapping[int, _Tolerance]) -> None:
        self._tolerances = tolerances
        self._occurrences = Occurrences()

    def scores(self, lines: Columns) -> Floats:
        """How many tolerances each line's interval is off, shape (lines,)."""
        scores = np.zeros(len(lines.time_ns))
        for came in self._occurrences.add(lines):
            tolerance = self._tolerances.get(came.pdu)
            if tolerance is not None:
                scores[came.following] = tolerance.scores(came.intervals_ns)
        return scores

    def gap(self) -> None:
        """The next occurrences have no interval."""
        self._occurrences.forget()

    def overdue(self, now_ns: int) -> tuple[Ints, Floats]:
        """PDUs that are behind their cycle at a time, and their scores if they came only then."""
        behind = [
            (pdu, float(self._tolerances[pdu].scores(np.array([now_ns - last_ns]))[0]))
            for pdu, last_ns in self._occurrences.last_ns().items()
            if pdu in self._tolerances and now_ns - last_ns > self._tolerances[pdu].cycle_ns
        ]
        return np.array([pdu for pdu, _ in behind], np.int64), np.array([score for _, score in behind])


class IntervalWatch:
    """Collects violations of one threshold: an early line when it comes, a late one when it was due.

    A PDU that has not come back by the last line, or by an interruption, violates its interval as well if
    its deadline has passed.
    """

    def __init__(
        self, tolerances: Mapping[int, _Tolerance], threshold: float, sources: Sequence[str]
    ) -> None:
        self._tolerances = tolerances
        self._threshold = threshold
        self._sources = sources
        self._occurrences = Occurrences()
        self._now_ns = 0
        self._times: list[Ints] = []
        self._pdus: list[Ints] = []

    def add(self, lines: Columns) -> None:
        """Take the next lines."""
        for came in self._occurrences.add(lines):
            tolerance = self._tolerances.get(came.pdu)
            if tolerance is None:
                continue
            intervals = came.intervals_ns
            wrong = tolerance.scores(intervals) > self._threshold
            times = came.now_ns[-len(intervals) :][wrong] if len(intervals) else intervals
            intervals = intervals[wrong]
            due = times - intervals + tolerance.deadline_ns(self._threshold)
            self._tell(came.pdu, np.where(intervals > tolerance.cycle_ns, np.minimum(due, times), times))
        if len(lines.time_ns):
            self._now_ns = max(self._now_ns, int(lines.time_ns.max()))

    def gap(self) -> None:
        """What is overdue is told; then everything is forgotten."""
        for pdu, time_ns in self._overdue():
            self._tell(pdu, np.array([time_ns]))
        self._occurrences.forget()
        self._now_ns = 0

    def spans(self, join_ns: int) -> list[Span]:
        """Violations of one bus at most `join_ns` apart, as one episode each."""
        still = self._overdue()
        times = np.concatenate([*self._times, np.array([time_ns for _, time_ns in still], np.int64)])
        pdus = np.concatenate([*self._pdus, np.array([pdu for pdu, _ in still], np.int64)])
        return join_by_bus(times, pdus, self._sources, join_ns)

    def _tell(self, pdu: int, times_ns: Ints) -> None:
        self._times.append(times_ns)
        self._pdus.append(np.full(len(times_ns), pdu))

    def _overdue(self) -> list[tuple[int, int]]:
        """PDU and deadline of what has not come and should have."""
        due = [
            (pdu, last_ns + self._tolerances[pdu].deadline_ns(self._threshold))
            for pdu, last_ns in self._occurrences.last_ns().items()
            if pdu in self._tolerances
        ]
        return [(pdu, time_ns) for pdu, time_ns in due if time_ns < self._now_ns]
