"""PATE: precision and recall weighted by how near an alarm is to its fault.

Ghorbani, Reinders, Tax: PATE, KDD 2024 (arXiv 2405.12096). Alarms soon after a fault count the less the later
they come, alarms before it count only if the fault itself is found too, and a missed line late in a fault
weighs less the more of the fault was found. Three things differ from the published package (0.1.1): buffers
are times; every threshold counts; and the part of a fault that was found is all of its lines told, where
the package takes the first unbroken run of them. The area is one of steps (see `levels.area`). With line
numbers for times the rest is the same.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from training.measures.intervals import Intervals, Scores, Times
from training.measures.levels import Floats, Levels, area, in_levels

__all__ = ["pate"]

Ints = npt.NDArray[np.int64]


def pate(
    times_ns: Times, scores: Scores, faults: Intervals, early_ns: Sequence[int], late_ns: Sequence[int]
) -> float | None:
    """Mean area under proximity-weighted precision and recall over buffers; O(n log n) for each pair.

    The package's default is no buffer and one of 100 lines on each side: four pairs. A perfect score has 1.

    Args:
        times_ns: of the lines, sorted, shape (lines,).
        scores: higher for stranger, shape (lines,).
        faults: in the trace's time. Those that hold no line are left out: no score could rank them.
        early_ns: how long before a fault an alarm can count, each with each of `late_ns`.
        late_ns: how long after it.

    Returns:
        0 to 1; None where no fault holds a line.

    Raises:
        ValueError: the shapes differ, times are out of order, a score is not a number, or there is no buffer.
    """
    if not len(early_ns) or not len(late_ns):
        raise ValueError("proximity needs a buffer at least, which may be 0")
    levels = in_levels(times_ns, scores)
    faults = faults.holding(times_ns)
    if not len(faults.starts_ns):
        return None
    inside = _Inside(times_ns, levels, faults)
    areas = []
    for early in early_ns:
        for late in late_ns:
            true = inside.true + _beside(times_ns, levels, faults, inside.found_at, early, late)
            areas.append(area(true / levels.told, true / (true + inside.missed)))
    return float(np.mean(areas))


class _Inside:
    """What does not depend on buffers: lines within faults.

    Attributes:
        true: lines told in faults, at each level, shape (levels,).
        missed: weight of lines not told in faults, at each level, shape (levels,).
        found_at: level at which each fault is found, shape (faults,).
    """

    def __init__(self, times_ns: Times, levels: Levels, faults: Intervals) -> None:
        starts = np.searchsorted(times_ns, faults.starts_ns)
        stops = np.searchsorted(times_ns, faults.ends_ns, side="right")
        at: list[Ints] = []
        change: list[Floats] = []
        self.found_at = np.empty(len(starts), np.int64)
        for fault, (start, stop) in enumerate(zip(starts.tolist(), stops.tolist(), strict=True)):
            level, missed = _missed(levels.of_line[start:stop])
            self.found_at[fault] = level[0]
            at.append(level)
            change.append(np.diff(missed, prepend=float(stop - start)))
        every = int((stops - starts).sum())
        lines = levels.of_line[faults.hold(times_ns)]
        self.true = levels.summed(lines, np.ones(len(lines)))
        # Sums of many small changes: what is 0 at the end is so only nearly.
        missed_sum = every + levels.summed(np.concatenate(at), np.concatenate(change))
        self.missed = np.maximum(missed_sum, 0.0)


def _missed(level: Ints) -> tuple[Ints, Floats]:
    """Weight of a fault's missed lines after each level that tells one of its lines.

    Its lines are numbered u = 0, 1, ... L-1. When c of them are told, a missed one weighs 1 up to u = c, and
    1 - sum over y = 0..c of (u - y) / sum over y = 0..L-1 of y beyond that.

    Args:
        level: of its lines, shape (lines,).

    Returns:
        The levels in order, and the weights, shape (distinct levels,) both.
    """
    lines = len(level)
    order = np.argsort(level, kind="stable")
    told = np.arange(1, lines + 1)
    # Line u, told as the k-th, is missed and lies beyond c exactly while c < min(k, u).
    beyond = np.minimum(told, order)
    count = np.bincount(beyond, minlength=lines + 1)
    total = np.bincount(beyond, order, lines + 1)
    count_beyond = len(order) - np.cumsum(count)[told]
    total_beyond = float(total.sum()) - np.cumsum(total)[told]
    norm = max(lines * (lines - 1) / 2, 1.0)
    weight = (lines - told) - (told + 1) / norm * (total_beyond - told / 2 * count_beyond)
    last = np.append(np.diff(level[order]) != 0, True)
    return level[order][last], weight[last]


class _Zone(NamedTuple):
    """Lines beside faults: their numbers, their faults, and what each is worth, shape (lines,) all."""

    line: Ints
    fault: Ints
    weight: Floats


def _beside(
    times_ns: Times, levels: Levels, faults: Intervals, found_at: Ints, early_ns: int, late_ns: int
) -> Floats:
    """What lines before and after faults are worth when they are told, at each level, shape (levels,)."""
    first, last = int(times_ns[0]), int(times_ns[-1])
    starts, ends = faults.starts_ns, faults.ends_ns
    late_end = np.minimum(ends + late_ns, np.append(starts[1:], last + 1) - 1)
    early_start = np.maximum(np.maximum(starts - early_ns, np.append(first, late_end[:-1] + 1)), first)
    after = _zone(times_ns, ends + 1, late_end, faults, late_end)
    before = _zone(times_ns, early_start, starts - 1, faults, early_start)
    # An alarm before a fault is worth nothing until the fault is found.
    before_level = np.maximum(levels.of_line[before.line], found_at[before.fault])
    return levels.summed(levels.of_line[after.line], after.weight) + levels.summed(
        before_level, before.weight
    )


def _zone(times_ns: Times, starts_ns: Times, ends_ns: Times, faults: Intervals, far_ns: Times) -> _Zone:
    """Lines of zones beside faults; their worth falls from the middle of the fault to 0 at `far_ns`."""
    begin = np.searchsorted(times_ns, starts_ns)
    counts = np.maximum(np.searchsorted(times_ns, ends_ns, side="right") - begin, 0)
    fault = np.repeat(np.arange(len(counts)), counts)
    line = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts) + begin[fault]
    half = (faults.ends_ns - faults.starts_ns) / 2
    to_far = np.abs(far_ns - faults.starts_ns - half)[fault]
    distance = np.abs((times_ns[line] - faults.starts_ns[fault]) - half[fault])
    return _Zone(line, fault, 1 - distance / to_far)
