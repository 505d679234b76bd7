"""Which lines of a trace its labels mean."""

from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from ecustream.errors import InputError
from ecustream.traffic import Line
from ecustream.units import duration
from training.labels import Label

__all__ = ["LabelledTrace"]

_REACH_NS = 10_000_000_000

Times = npt.NDArray[np.int64]


class LabelledTrace:
    """Says of the lines of one trace, batch by batch, which ones its labels mean.

    A line is labelled if it lies within a label and its PDU's name is one of the label's, or the label names
    none. Where a message is missing, its label may hold no line of the PDU; then the PDU's next line is the
    odd one, and labelled if it comes within 10 s after the label's end.

    Args:
        labels: of the trace, sorted by start as `read_labels` returns them.
        name: of the label file, for sentences.
        trace: name of the trace.
    """

    def __init__(self, labels: Sequence[Label], name: str, trace: str) -> None:
        self._labels = labels
        self._name = name
        self._trace = trace
        self._first_ns: int | None = None
        self._last_ns = 0
        self._anything = _Intervals([label for label in labels if not label.pdus])
        of_pdu: dict[str, list[Label]] = {}
        for label in labels:
            for pdu in set(label.pdus):
                of_pdu.setdefault(pdu, []).append(label)
        self._of_pdu = {pdu: _Intervals(those) for pdu, those in of_pdu.items()}

    def __call__(self, lines: Sequence[Line]) -> npt.NDArray[np.bool_]:
        """Whether each of the next lines is labelled, shape (lines,)."""
        times = np.array([line.time_ns for line in lines], np.int64)
        if not lines:
            return np.zeros(0, np.bool_)
        earliest, latest = int(times.min()), int(times.max())
        self._first_ns = earliest if self._first_ns is None else min(self._first_ns, earliest)
        self._last_ns = max(self._last_ns, latest)
        labelled = self._anything.hold(times)
        concerned = {pdu for pdu, those in self._of_pdu.items() if those.concern(earliest, latest)}
        if concerned:
            names = np.array([line.stream.name for line in lines])
            for pdu in concerned.intersection(names.tolist()):
                of_pdu = np.flatnonzero(names == pdu)
                intervals = self._of_pdu[pdu]
                labelled[of_pdu] |= intervals.hold(times[of_pdu]) | intervals.first_since(times[of_pdu])
        return labelled

    def finish(self) -> None:
        """Check that the labels belong to the trace that was read.

        Raises:
            InputError: a label ends more than 10 s before the trace or starts as long after it.
        """
        if self._first_ns is None:
            return
        for number, label in enumerate(self._labels, 1):
            early_ns, late_ns = self._first_ns - label.end_ns, label.start_ns - self._last_ns
            if max(early_ns, late_ns) > _REACH_NS:
                away = duration(max(early_ns, late_ns))
                where = "before its start" if early_ns > late_ns else "after its end"
                raise InputError(
                    f"{self._name}: label {number} ({label.kind}, {away} {where}) lies outside the trace "
                    f"{self._trace}, which goes from {_utc(self._first_ns)} to {_utc(self._last_ns)}"
                )


class _Intervals:
    """Labels of one PDU; what they hold is held as their union, intervals in order that do not meet."""

    def __init__(self, labels: Sequence[Label]) -> None:
        spans = sorted((label.start_ns, label.end_ns) for label in labels)
        self._starts, self._ends = np.array(spans, np.int64).reshape(-1, 2).T
        self._spans = spans
        union: list[tuple[int, int]] = []
        for start_ns, end_ns in spans:
            if union and start_ns <= union[-1][1]:
                start_ns, end_ns = union[-1][0], max(union.pop()[1], end_ns)
            union.append((start_ns, end_ns))
        self._union_starts, self._union_ends = np.array(union, np.int64).reshape(-1, 2).T
        self._stretches = union
        self._waiting = 0

    def concern(self, earliest_ns: int, latest_ns: int) -> bool:
        """Whether a line of this time can be labelled."""
        if self._waiting < len(self._spans) and self._spans[self._waiting][0] <= latest_ns:
            return True
        at = bisect_right(self._stretches, latest_ns, key=itemgetter(0)) - 1
        return at >= 0 and self._stretches[at][1] >= earliest_ns

    def hold(self, times: Times) -> npt.NDArray[np.bool_]:
        """Whether each time lies in an interval."""
        if not len(self._starts):
            return np.zeros(len(times), np.bool_)
        at = np.searchsorted(self._union_starts, times, side="right") - 1
        inside: npt.NDArray[np.bool_] = (at >= 0) & (times <= self._union_ends[at])
        return inside

    def first_since(self, times: Times) -> npt.NDArray[np.bool_]:
        """Whether each of the PDU's next lines is the first since a label's start, and within reach.

        Where a label holds a line, the first since its start is one of those that it holds.
        """
        out = np.zeros(len(times), np.bool_)
        newest = np.maximum.accumulate(times)  # lines may be out of order by a little
        started = int(np.searchsorted(self._starts, newest[-1], side="right"))
        waiting = slice(self._waiting, started)
        first = np.searchsorted(newest, self._starts[waiting])
        out[first[times[first] <= self._ends[waiting] + _REACH_NS]] = True
        self._waiting = max(self._waiting, started)
        return out


def _utc(time_ns: int) -> str:
    whole = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC)
    return f"{whole:%Y-%m-%d %H:%M:%S}.{time_ns % 1_000_000_000 // 1_000_000:03d} UTC"
