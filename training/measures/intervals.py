"""Intervals of capture time: union of labels, runs of lines, and which lines they hold."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["NOWHERE", "Bools", "Interval", "Intervals", "Scores", "Times", "observed_ns", "runs", "union"]

Times = npt.NDArray[np.int64]
Scores = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]


class Interval(Protocol):
    """Whatever has a start and an end: a label, a context row, an episode."""

    @property
    def start_ns(self) -> int:
        """When it began."""

    @property
    def end_ns(self) -> int:
        """When it ended, itself included."""


class Intervals(NamedTuple):
    """Intervals in order that do not meet; both ends belong to them.

    Attributes:
        starts_ns: shape (intervals,).
        ends_ns: shape (intervals,).
    """

    starts_ns: Times
    ends_ns: Times

    def hold(self, times_ns: Times) -> Bools:
        """Whether each time lies in one of them, shape (times,); the times need no order."""
        if not len(self.starts_ns):
            return np.zeros(len(times_ns), np.bool_)
        at = np.searchsorted(self.starts_ns, times_ns, side="right") - 1
        inside: Bools = (at >= 0) & (times_ns <= self.ends_ns[at])
        return inside

    def holding(self, times_ns: Times) -> "Intervals":
        """Those that hold a time at least.

        Args:
            times_ns: sorted, shape (times,).
        """
        lines = np.searchsorted(times_ns, self.ends_ns, "right") - np.searchsorted(times_ns, self.starts_ns)
        return Intervals(self.starts_ns[lines > 0], self.ends_ns[lines > 0])


NOWHERE = Intervals(np.zeros(0, np.int64), np.zeros(0, np.int64))
"""No interval at all."""


def union(rows: Iterable[Interval]) -> Intervals:
    """What labels, context rows or episodes cover together; those that share a moment become one."""
    starts: list[int] = []
    ends: list[int] = []
    for start_ns, end_ns in sorted((row.start_ns, row.end_ns) for row in rows):
        if ends and start_ns <= ends[-1]:
            ends[-1] = max(ends[-1], end_ns)
        else:
            starts.append(start_ns)
            ends.append(end_ns)
    return Intervals(np.array(starts, np.int64), np.array(ends, np.int64))


def runs(times_ns: Times, flagged: Bools, join_ns: int) -> Intervals:
    """Regions of flagged lines: those at most `join_ns` apart belong together.

    With line numbers for times and a join of 1 a region is a run of consecutive lines.

    Args:
        times_ns: sorted, shape (lines,).
        flagged: shape (lines,).
        join_ns: the longest time between two flagged lines of one region.
    """
    times = times_ns[flagged]
    if not len(times):
        return NOWHERE
    apart = np.diff(times) > join_ns
    return Intervals(times[np.append(True, apart)], times[np.append(apart, True)])


def observed_ns(times_ns: Times, set_aside: Intervals = NOWHERE) -> int:
    """Time from the first line to the last without what is set aside; 0 where there is no line.

    Args:
        times_ns: sorted, shape (lines,).
        set_aside: what does not count, for instance capture gaps.
    """
    if not len(times_ns):
        return 0
    first, last = int(times_ns[0]), int(times_ns[-1])
    starts, ends = np.clip(set_aside.starts_ns, first, last), np.clip(set_aside.ends_ns, first, last)
    return last - first - int((ends - starts).sum())
