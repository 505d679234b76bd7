"""Interval bounds of every PDU as the calibration of a bundle has them, widened by a margin."""

from collections.abc import Iterable

from ecustream.detect.calibration import Calibration
from ecustream.traffic import Line
from training.baselines.episodes import join
from training.metrics import Span

__all__ = ["IntervalRule"]

_JOIN_NS = 100_000_000


class IntervalRule:
    """Minimum and maximum interval of clean traffic, widened by a margin; feed it lines, then `spans`.

    Args:
        calibration: where the bounds over one interval come from.
        margin_cycles: widens both bounds, in cycles of the PDU.
    """

    def __init__(self, calibration: Calibration, margin_cycles: float) -> None:
        self._bounds = {
            # Whole numbers: a float of a capture time is a few hundred ns off.
            pdu.key: (
                pdu.shortest_ns[0] - round(margin_cycles * pdu.cycle_ns),
                pdu.longest_ns[0] + round(margin_cycles * pdu.cycle_ns),
            )
            for pdu in calibration.pdus
            if pdu.cycle_ns
        }
        self._last_ns: dict[str, int] = {}
        self._now = 0
        self._violations: list[int] = []

    def add(self, lines: Iterable[Line]) -> None:
        """Take lines in order."""
        for line in lines:
            self._now = max(self._now, line.time_ns)
            key = line.stream.key
            bounds = self._bounds.get(key)
            if bounds is None:
                continue
            last = self._last_ns.get(key)
            self._last_ns[key] = line.time_ns
            if last is None:
                continue
            if line.time_ns - last < bounds[0]:
                self._violations.append(line.time_ns)
            elif line.time_ns - last > bounds[1]:
                # A supervised interval is violated when it expires, not when the message comes at last.
                self._violations.append(last + bounds[1])

    def gap(self) -> None:
        """The next line does not follow the last one: what is overdue is told, then all is forgotten."""
        self._violations += self._overdue()
        self._last_ns.clear()
        self._now = 0

    def spans(self) -> list[Span]:
        """Violations that are less than 100 ms apart, as one episode each."""
        return join([*self._violations, *self._overdue()], _JOIN_NS)

    def _overdue(self) -> list[int]:
        """A PDU that does not come back violates its interval as well, if the trace goes on long enough."""
        ends = (last + self._bounds[key][1] for key, last in self._last_ns.items())
        return [end for end in ends if end < self._now]
