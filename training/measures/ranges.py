"""RangeAUC-PR and VUS-PR: precision and recall with soft edges around every fault.

Paparrizos et al., Volume Under the Surface, PVLDB 15(11), 2022. A line near a fault counts in part, so that a
detector whose alarms lag by little is not punished like a blind one, and each fault must be found to count
at all. Two things differ from the published code: buffers are times, and every threshold counts where that
takes 250 of them. With line numbers for times the definitions are the same.
A wider buffer gives other values: name it wherever you quote one.
"""

from collections.abc import Sequence

import numpy as np

from training.measures.intervals import Intervals, Scores, Times
from training.measures.levels import Floats, Levels, area, in_levels

__all__ = ["range_auc_pr", "soft_labels", "vus_pr"]


def range_auc_pr(times_ns: Times, scores: Scores, faults: Intervals, buffer_ns: int) -> float | None:
    """Area under range-based precision and recall; O(n log n).

    A perfect score reaches 1 only without a buffer: with one, the lines beside the fault count in part and
    are told either too early or too late. A random score has about the share of lines in faults.

    Args:
        times_ns: of the lines, sorted, shape (lines,).
        scores: higher for stranger, shape (lines,).
        faults: in the trace's time. Those that hold no line are left out: no score could rank them.
        buffer_ns: width of both edges together; a line counts in part up to half of it away.

    Returns:
        0 to 1; None where no fault holds a line.

    Raises:
        ValueError: the shapes differ, times are out of order, or a score is not a number.
    """
    return vus_pr(times_ns, scores, faults, [buffer_ns])


def vus_pr(times_ns: Times, scores: Scores, faults: Intervals, buffers_ns: Sequence[int]) -> float | None:
    """Mean of `range_auc_pr` over buffers: the volume under the surface that they span.

    Args:
        times_ns: of the lines, sorted, shape (lines,).
        scores: higher for stranger, shape (lines,).
        faults: as for `range_auc_pr`.
        buffers_ns: widths, evenly spaced from 0 to the widest as the paper has them.

    Raises:
        ValueError: as for `range_auc_pr`, or there is no buffer.
    """
    if not len(buffers_ns):
        raise ValueError("the volume needs a buffer at least")
    levels = in_levels(times_ns, scores)
    faults = faults.holding(times_ns)
    if not len(faults.starts_ns):
        return None
    hard = float(faults.hold(times_ns).sum())
    return float(np.mean([_area(levels, soft_labels(times_ns, faults, b), hard) for b in buffers_ns]))


def soft_labels(times_ns: Times, faults: Intervals, buffer_ns: int) -> Floats:
    """How much each line belongs to a fault, 0 to 1, shape (lines,).

    1 within a fault; at distance d up to half the buffer l it is sqrt(1 - d / l); slopes of two faults add,
    to 1 at most.

    Args:
        times_ns: of the lines, shape (lines,).
        faults: one at least.
        buffer_ns: l.
    """
    soft = faults.hold(times_ns).astype(np.float64)
    reach = buffer_ns // 2
    if not reach:
        return soft
    before = np.searchsorted(faults.ends_ns, times_ns)  # faults that are over
    after = np.searchsorted(faults.starts_ns, times_ns, side="right")  # the first that is yet to come
    near = (soft == 0) & (
        (before > np.searchsorted(faults.ends_ns, times_ns - reach))
        | (np.searchsorted(faults.starts_ns, times_ns + reach, side="right") > after)
    )
    at = np.flatnonzero(near)
    times, before, after = times_ns[at], before[at], after[at]
    slopes = (
        before
        - np.searchsorted(faults.ends_ns, times - reach)
        + np.searchsorted(faults.starts_ns, times + reach, side="right")
        - after
    )
    since = np.where(before > 0, times - faults.ends_ns[before - 1], buffer_ns)
    until = np.where(
        after < len(faults.starts_ns),
        faults.starts_ns[np.minimum(after, len(faults.starts_ns) - 1)] - times,
        buffer_ns,
    )
    # Two slopes, each above the root of one half, make more than 1.
    soft[at] = np.where(slopes > 1, 1.0, np.sqrt(1 - np.minimum(since, until) / buffer_ns))
    return soft


def _area(levels: Levels, soft: Floats, hard: float) -> float:
    """Area for one buffer; `hard` lines lie in faults themselves."""
    touched = np.flatnonzero(soft)
    true = levels.summed(levels.of_line[touched], soft[touched])
    regions = np.append(True, np.diff(touched) > 1)
    found_at = np.minimum.reduceat(levels.of_line[touched], np.flatnonzero(regions))
    found = np.cumsum(np.bincount(found_at, minlength=len(levels.told)))
    positives = (hard + float(soft.sum())) / 2
    recall = np.minimum(true / positives, 1.0) * found / found[-1]
    return area(true / levels.told, recall)
