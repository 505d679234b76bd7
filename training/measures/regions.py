"""Precision and recall by region, as the reference paper counts them beside lines."""

from training.measures.intervals import Bools, Intervals, Times, runs
from training.measures.lines import Confusion

__all__ = ["by_region"]


def by_region(times_ns: Times, told: Bools, labelled: Bools, join_ns: int) -> Confusion:
    """Regions told against regions labelled.

    "Regions represent groups of consecutive anomalies where we consider that the prediction is correct if it
    lies in that region" (arXiv 2507.01077, table IV: 0.81 / 0.81, by line 0.60 / 0.90). A labelled region is
    found if a told line lies in it; a told region is right if a labelled line lies in it. By this measure
    random alarms on 3 % of the lines find four regions of five, so never quote its recall alone.

    Args:
        times_ns: of the lines, sorted, shape (lines,). Line numbers and a join of 1 give consecutive lines,
            as in the paper; but messages of many PDUs lie between two of one, so time is the better choice.
        told: shape (lines,).
        labelled: shape (lines,).
        join_ns: the longest time between two lines of one region.
    """
    true, predicted = runs(times_ns, labelled, join_ns), runs(times_ns, told, join_ns)
    return Confusion(
        found=_touched(true, times_ns[told]),
        labelled=len(true.starts_ns),
        right=_touched(predicted, times_ns[labelled]),
        told=len(predicted.starts_ns),
    )


def _touched(regions: Intervals, times_ns: Times) -> int:
    """How many regions hold one of the times."""
    return len(regions.holding(times_ns).starts_ns)
