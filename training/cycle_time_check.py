"""CANoe's relative cycle time check: which messages came too early or too late for their nominal cycle.

The rule and its words are those of the Test Service Library as CANoe's help describes it: `ChkStart_` and
`ChkQuery_` functions, GenMsgCycleTime for the nominal cycle, NumEvents for the violations. That a violation
counts when the message comes, not when it should have come, is this implementation's.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ecustream.errors import ConfigError
from training.draws import IntArray

__all__ = ["NEVER", "CycleEvents", "CycleTimeCheck", "MessageStatistics"]

NEVER = np.iinfo(np.int64).min
"""The time of what has not happened yet."""
_ALWAYS = np.iinfo(np.int64).max


class CycleEvents(NamedTuple):
    """Violations of the rule, in order of the messages that showed them.

    Attributes:
        message: number of the message, shape (events,).
        previous_ns: its last occurrence before.
        time_ns: the occurrence at the wrong distance.
    """

    message: IntArray
    previous_ns: IntArray
    time_ns: IntArray


class MessageStatistics(NamedTuple):
    """The distances of one message in CANoe's words; `stddev_ns` is that of all distances seen."""

    message: int
    cycle_ns: int
    num_events: int
    distances: int
    min_ns: int
    max_ns: int
    avg_ns: float
    stddev_ns: float


class CycleTimeCheck:
    """CANoe's `ChkStart_MsgRelCycleTimeViolation` for many messages.

    It is an event when the distance of a message to its last occurrence is < min_rel x GenMsgCycleTime or
    > max_rel x GenMsgCycleTime. As in CANoe, messages without a cycle are not checked, and neither should
    be network management and diagnostics: give them cycle 0. A message that does not come back has no event
    until it does.

    Args:
        cycles_ns: GenMsgCycleTime of each message; 0: it is not checked.
        min_rel: lower limit in cycles; 0: none.
        max_rel: upper limit in cycles; 0: none.

    Attributes:
        cycles_ns: as given, shape (messages,).
        shortest_ns, longest_ns: the limits of each message.

    Raises:
        ConfigError: a limit is negative, or the lower one is above the upper one.
    """

    def __init__(self, cycles_ns: Sequence[int], min_rel: float = 0.8, max_rel: float = 1.2) -> None:
        for name, limit in (("min-rel", min_rel), ("max-rel", max_rel)):
            if not (math.isfinite(limit) and limit >= 0):
                raise ConfigError(f"{name} {limit:g} is no number of cycles from 0 (not checked) upwards")
        if max_rel and min_rel > max_rel:
            raise ConfigError(f"min-rel {min_rel:g} is above max-rel {max_rel:g}")
        self.cycles_ns: IntArray = np.array(cycles_ns, dtype=np.int64)
        count = len(self.cycles_ns)
        self.shortest_ns = self._limit(min_rel, NEVER)
        self.longest_ns = self._limit(max_rel, _ALWAYS)
        # Stable sorting of 16-bit numbers is a radix sort, several times as fast.
        self._sort_type = np.uint16 if count <= 1 << 16 else np.int64
        self._last_ns = np.full(count, NEVER)
        self._events = np.zeros(count, dtype=np.int64)
        self._distances = np.zeros(count, dtype=np.int64)
        self._min_ns = np.full(count, _ALWAYS)
        self._max_ns = np.full(count, NEVER)
        # About the cycle, so that little is lost to rounding.
        self._sum_ns = np.zeros(count, dtype=np.int64)
        self._squares_ns2 = np.zeros(count)

    def _limit(self, relative: float, unlimited: int) -> IntArray:
        if not relative:
            return np.full(len(self.cycles_ns), unlimited)
        limit: IntArray = np.rint(self.cycles_ns * relative).astype(np.int64)
        return limit

    def feed(self, message: IntArray, time_ns: IntArray) -> CycleEvents:
        """Check messages in the order in which they came; how they are divided into calls is no matter.

        Args:
            message: number of each message, shape (rows,).
            time_ns: when it came.
        """
        checked = self.cycles_ns[message] > 0
        if not checked.all():
            message, time_ns = message[checked], time_ns[checked]
        if not len(message):
            return CycleEvents(message, time_ns, time_ns)
        order = np.argsort(message.astype(self._sort_type), kind="stable")
        number, time_ns = message[order], time_ns[order]
        first = np.flatnonzero(np.diff(number, prepend=-1))
        last = np.append(first[1:], len(number)) - 1
        previous_ns = np.empty_like(time_ns)
        previous_ns[1:] = time_ns[:-1]
        previous_ns[first] = self._last_ns[number[first]]
        self._last_ns[number[last]] = time_ns[last]

        known = previous_ns != NEVER
        if not known.all():
            order, number, time_ns, previous_ns = (a[known] for a in (order, number, time_ns, previous_ns))
        distance = time_ns - previous_ns
        self._count(number, distance)
        wrong = (distance < self.shortest_ns[number]) | (distance > self.longest_ns[number])
        at = np.flatnonzero(wrong)
        at = at[np.argsort(order[at])]
        self._events += np.bincount(number[at], minlength=len(self._events))
        return CycleEvents(number[at], previous_ns[at], time_ns[at])

    def _count(self, number: IntArray, distance: IntArray) -> None:
        """Take distances into the statistics; rows of one message are adjacent."""
        if not len(number):
            return
        first = np.flatnonzero(np.diff(number, prepend=-1))
        seen = number[first]
        self._distances[seen] += np.diff(np.append(first, len(number)))
        self._min_ns[seen] = np.minimum(self._min_ns[seen], np.minimum.reduceat(distance, first))
        self._max_ns[seen] = np.maximum(self._max_ns[seen], np.maximum.reduceat(distance, first))
        off_ns = distance - self.cycles_ns[number]
        self._sum_ns[seen] += np.add.reduceat(off_ns, first)
        # One after the other, so that the sum does not depend on how the rows are divided into calls.
        np.add.at(self._squares_ns2, number, off_ns.astype(np.float64) ** 2)

    def statistics(self) -> list[MessageStatistics]:
        """Those of every message with a distance, by number."""
        return [self._statistics_of(number) for number in np.flatnonzero(self._distances).tolist()]

    def _statistics_of(self, number: int) -> MessageStatistics:
        distances = int(self._distances[number])
        mean_off_ns = int(self._sum_ns[number]) / distances
        variance = float(self._squares_ns2[number]) / distances - mean_off_ns**2
        return MessageStatistics(
            message=number,
            cycle_ns=int(self.cycles_ns[number]),
            num_events=int(self._events[number]),
            distances=distances,
            min_ns=int(self._min_ns[number]),
            max_ns=int(self._max_ns[number]),
            avg_ns=int(self.cycles_ns[number]) + mean_off_ns,
            stddev_ns=math.sqrt(max(0.0, variance)),
        )
