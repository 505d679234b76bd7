"""Lines in the order in which a falling threshold tells them, ties at once."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from training.measures.intervals import Scores, Times

__all__ = ["Levels", "area", "in_levels"]

Floats = npt.NDArray[np.float64]


class Levels(NamedTuple):
    """Which threshold tells each line first; threshold 0 is the highest score.

    Attributes:
        of_line: level of each line, shape (lines,).
        told: lines told at each level or before, shape (levels,).
    """

    of_line: npt.NDArray[np.int64]
    told: npt.NDArray[np.int64]

    def summed(self, level: npt.NDArray[np.int64], weight: Floats) -> Floats:
        """Sum of the weights up to each level, shape (levels,).

        Args:
            level: from which on each weight counts, shape (weights,).
            weight: shape (weights,).
        """
        return np.cumsum(np.bincount(level, weight, len(self.told)))


def in_levels(times_ns: Times, scores: Scores) -> Levels:
    """Levels of a trace's lines; O(n log n).

    Args:
        times_ns: sorted, shape (lines,).
        scores: higher for stranger, finite, shape (lines,).

    Raises:
        ValueError: the shapes differ, times are out of order, or a score is not a number.
    """
    if len(times_ns) != len(scores):
        raise ValueError("times and scores need one entry a line each")
    if (np.diff(times_ns) < 0).any():
        raise ValueError("lines must be in the order of time")
    if np.isnan(scores).any():
        raise ValueError("a score that is not a number has no rank")
    _, rising, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    return Levels((len(sizes) - 1 - rising).astype(np.int64), np.cumsum(sizes[::-1]))


def area(precision: Floats, recall: Floats) -> float:
    """Area under precision over recall as steps, each as high as precision is at its end.

    Straight lines between the points of such a curve promise what no threshold gives (Davis and Goadrich,
    ICML 2006); with them a constant score would reach more than one half. Where recall falls, which
    weighted recall can, the points are left out until it is up again.
    """
    kept = recall >= np.maximum.accumulate(recall)
    return float((np.diff(recall[kept], prepend=0.0) * precision[kept]).sum())
