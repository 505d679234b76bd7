"""What an engineer would use instead: interval bounds of every PDU, or one score and a threshold."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from ecustream.detect.calibration import Calibration
from ecustream.traffic import Line
from training.metrics import Span

__all__ = ["IntervalRule", "join", "threshold_spans"]

_JOIN_NS = 100_000_000


class IntervalRule:
    """Minimum and maximum interval of clean traffic, widened by a margin; feed it lines, then `spans`.

    Args:
        calibration: where the bounds over one interval come from.
        margin_cycles: widens both bounds, in cycles of the PDU.
    """

    def __init__(self, calibration: Calibration, margin_cycles: float) -> None:
        self._bounds = {
            pdu.key: (
                pdu.shortest_ns[0] - margin_cycles * pdu.cycle_ns,
                pdu.longest_ns[0] + margin_cycles * pdu.cycle_ns,
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
                self._violations.append(int(last + bounds[1]))

    def spans(self) -> list[Span]:
        """Violations that are less than 100 ms apart, as one episode each."""
        ends = [int(last + self._bounds[key][1]) for key, last in self._last_ns.items()]
        # A PDU that does not come back violates its interval as well, if the trace goes on long enough.
        return join([*self._violations, *(end for end in ends if end < self._now)], _JOIN_NS)


def join(times_ns: Iterable[int], gap_ns: int) -> list[Span]:
    """Moments to episodes: those at most `gap_ns` apart belong together."""
    spans: list[Span] = []
    for time_ns in sorted(times_ns):
        if spans and time_ns - spans[-1].end_ns <= gap_ns:
            spans[-1] = spans[-1]._replace(end_ns=time_ns)
        else:
            spans.append(Span(time_ns, time_ns, time_ns))
    return spans


def threshold_spans(
    times_ns: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float64],
    threshold: float,
    lines: int,
    gap_ns: int,
) -> list[Span]:
    """Episodes of at least `lines` consecutive lines above `threshold`, joined over gaps of `gap_ns`.

    With perplexity for scores this is the filter of the paper for a whole trace at once; unlike
    `ecustream.detect.perplexity.PerplexityFilter` it needs as many lines again after every dip.
    """
    above = np.concatenate([[False], scores > threshold, [False]]).astype(np.int8)
    starts, stops = np.nonzero(np.diff(above) == 1)[0], np.nonzero(np.diff(above) == -1)[0]
    spans: list[Span] = []
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        if stop - start < lines:
            continue
        first, last = int(times_ns[start]), int(times_ns[stop - 1])
        if spans and first - spans[-1].end_ns <= gap_ns:
            spans[-1] = spans[-1]._replace(end_ns=last)
        else:
            spans.append(Span(first, last, int(times_ns[start + lines - 1])))
    return spans
