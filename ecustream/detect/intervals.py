"""Judges each interval of one PDU against the shortest and longest that clean traffic had.

Two spans are judged: the last interval, and the last two together. The second finds what the first
cannot, an extra message in the middle of a jittery interval: one interval cut in two may leave both
halves plausible, but the next two intervals then span one cycle instead of two.

A disturbance must not be reported again by its echo. After a line that broke a bound so far that it
counts by itself, the next one is good if it fits any reading of what happened: the odd line was extra
(measure from the line before it), or it was delayed and the sender kept its raster (measure two
intervals from the line before it). Two intervals together are not judged across such a line.
"""

from typing import Literal, NamedTuple

from ecustream.detect.calibration import PduCalibration

__all__ = ["Deviation", "IntervalWatch"]

_MORE = 0.9


class Deviation(NamedTuple):
    """A span outside its learned bounds, by `excess_cycles` of the PDU's cycle."""

    side: Literal["late", "early"]
    intervals: int
    span_ns: int
    excess_cycles: float


class IntervalWatch:
    """The interval history of one PDU; feed it every capture time in order.

    Attributes:
        last_ns: its last occurrence; None before the first.

    Args:
        pdu: its learned bounds.
        counts_cycles: a line whose deviation exceeds this counts by itself, and its echo is expected.
    """

    __slots__ = (
        "_before_ns",
        "_counts",
        "_cycle",
        "_high",
        "_high_two",
        "_last_good",
        "_longest",
        "_low",
        "_low_two",
        "_shortest",
        "_suspect",
        "last_ns",
    )

    def __init__(self, pdu: PduCalibration, counts_cycles: float = 0.0) -> None:
        self._counts = counts_cycles
        self._cycle = pdu.cycle_ns
        self._shortest = pdu.shortest_ns
        self._longest = pdu.longest_ns
        self._low, self._low_two = pdu.shortest_ns
        self._high, self._high_two = pdu.longest_ns
        self.reset()

    def reset(self) -> None:
        """Forget the history, as after a gap in the capture."""
        self.last_ns: int | None = None
        self._before_ns: int | None = None
        self._last_good = True
        self._suspect: int | None = None

    def arrive(self, time_ns: int) -> Deviation | None:
        """Take an occurrence at `time_ns`; the worst deviation it shows, or None if it is good."""
        last = self.last_ns
        if last is None:
            self.last_ns = time_ns
            return None
        before = self._before_ns
        if (  # the usual case, which leaves no suspicion: there was none
            before is not None
            and self._low <= time_ns - last <= self._high
            and self._low_two <= time_ns - before <= self._high_two
        ):
            self._before_ns, self.last_ns = last, time_ns
            return None
        worst = self._judge(time_ns - last, 1)
        if self._before_ns is not None:
            over_two = self._judge(time_ns - self._before_ns, 2)
            # Two intervals hold the last one: they tell more only where they deviate clearly more.
            if over_two is not None and (
                worst is None or _MORE * over_two.excess_cycles > worst.excess_cycles
            ):
                worst = over_two
        if worst is not None and self._explained(time_ns):
            worst = None
        good = worst is None or worst.excess_cycles < self._counts
        # What the next line may be measured from instead, if this one turns out to be the odd one.
        self._suspect = None if good else last
        self._before_ns = last if good and self._last_good else None
        self._last_good = good
        self.last_ns = time_ns
        return worst

    def _judge(self, span: int, intervals: int) -> Deviation | None:
        if span < self._shortest[intervals - 1]:
            excess = (self._shortest[intervals - 1] - span) / self._cycle
            return Deviation("early", intervals, span, excess)
        if span > self._longest[intervals - 1]:
            excess = (span - self._longest[intervals - 1]) / self._cycle
            return Deviation("late", intervals, span, excess)
        return None

    def _explained(self, time_ns: int) -> bool:
        if self._suspect is None:
            return False
        span = time_ns - self._suspect
        return any(low <= span <= high for low, high in zip(self._shortest, self._longest, strict=True))

    def overdue_ns(self, excess_cycles: float) -> int | None:
        """The time at which the next occurrence will be late by `excess_cycles`; None before the first.

        After a line that was odd the sender may have kept its raster, which gives the later time.
        """
        if self.last_ns is None:
            return None
        latest = self.last_ns + self._longest[0]
        if self._suspect is not None:
            latest = max(latest, self._suspect + self._longest[1])
        return latest + round(excess_cycles * self._cycle)
