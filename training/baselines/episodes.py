"""Moments and scores of lines to episodes, and the threshold that a budget of false alarms allows."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from training.metrics import Span

__all__ = ["Moments", "join", "join_by_bus", "threshold_for", "threshold_spans"]


class Moments(NamedTuple):
    """What one clean trace showed: times in ns, numbers of PDUs, and scores, shape (n,) each."""

    time_ns: npt.NDArray[np.int64]
    pdu: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float64]


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


def join_by_bus(
    times_ns: npt.NDArray[np.int64],
    pdus: npt.NDArray[np.integer],
    sources: Sequence[str],
    gap_ns: int,
) -> list[Span]:
    """Moments to episodes as the detector joins findings: those of one bus at most `gap_ns` apart.

    Args:
        times_ns: of the moments, in any order, shape (n,).
        pdus: number of the PDU of each.
        sources: bus of each PDU, by number.
        gap_ns: the detector's `join_ns`.

    Returns:
        Episodes of all buses, sorted by start.
    """
    buses = [sources[pdu] for pdu in pdus.tolist()]
    return sorted(
        span
        for bus in sorted(set(buses))
        for span in join((t for t, b in zip(times_ns.tolist(), buses, strict=True) if b == bus), gap_ns)
    )


def threshold_for(
    clean: Sequence[Moments], sources: Sequence[str], false_alarms_per_hour: float, gap_ns: int
) -> float:
    """The lowest threshold above which clean traffic keeps within a budget of episodes.

    The budget is a whole number of episodes, rounded down: less clean traffic than one alarm takes allows
    none, and the threshold is the highest clean score. With none in T hours the true rate is below 3 / T at
    95 % confidence, so the budget is only as good as there is clean traffic.

    Args:
        clean: traces that the baseline has not learned from.
        sources: bus of each PDU, by number.
        false_alarms_per_hour: the budget.
        gap_ns: as for `join_by_bus`.

    Returns:
        What a score must exceed; -inf where every score may.
    """
    hours = sum(float(np.ptp(moments.time_ns)) for moments in clean if len(moments.time_ns)) / 3.6e12
    # Floating-point: 0.1 an hour in ten hours is one, though the product may be a little less.
    allowed = int(hours * false_alarms_per_hour + 1e-9)
    columns = [
        (np.full(len(moments.scores), number), moments.time_ns, moments.pdu, moments.scores)
        for number, moments in enumerate(clean)
    ]
    if not sum(len(scores) for *_, scores in columns):
        return -np.inf
    trace, time_ns, pdu, scores = (np.concatenate(column) for column in zip(*columns, strict=True))
    episodes = _Growing(gap_ns)
    last = np.inf
    order = np.argsort(-scores, kind="stable")
    for start in range(0, len(order), 4096):  # most of a long trace is never looked at
        rows = order[start : start + 4096]
        columns_of = (column[rows].tolist() for column in (trace, time_ns, pdu, scores))
        for row_trace, row_ns, row_pdu, score in zip(*columns_of, strict=True):
            if score != last and episodes.count > allowed:
                return last
            last = score
            episodes.add((row_trace, sources[row_pdu]), row_ns)
    return last if episodes.count > allowed else -np.inf


class _Growing:
    """Episodes while moments are added in any order."""

    def __init__(self, gap_ns: int) -> None:
        self._gap_ns = gap_ns
        self._bounds: dict[tuple[int, str], tuple[list[int], list[int]]] = {}
        self.count = 0

    def add(self, where: tuple[int, str], time_ns: int) -> None:
        """A moment of a trace and bus."""
        starts, ends = self._bounds.setdefault(where, ([], []))
        # The first that does not end too early, and the first that starts too late to be joined.
        first = bisect_left(ends, time_ns - self._gap_ns)
        stop = bisect_left(starts, time_ns + self._gap_ns + 1)
        met = slice(first, max(first, stop))
        self.count += 1 - len(starts[met])
        starts[met] = [min([time_ns, *starts[met]])]
        ends[met] = [max([time_ns, *ends[met]])]
