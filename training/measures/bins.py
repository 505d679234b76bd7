"""A trace's scores at an even rate: the highest of each stretch of time."""

import numpy as np

from training.measures.intervals import Scores, Times

__all__ = ["peaks"]


def peaks(times_ns: Times, scores: Scores, bin_ns: int) -> tuple[Times, Scores]:
    """The highest score of each bin that holds a line.

    While a fault of one PDU lasts, hundreds of lines of other PDUs come that are fine. Measures that count
    lines within faults (`range_auc_pr`, `pate`) therefore want a detector to shout at all of them; on
    peaks, it need shout only once a bin.

    Args:
        times_ns: of the lines, sorted, shape (lines,).
        scores: higher for stranger, shape (lines,).
        bin_ns: length of a bin; they begin at multiples of it.

    Returns:
        Start of each bin and its score, shape (bins,) both.
    """
    bins = times_ns // bin_ns
    first = np.flatnonzero(np.diff(bins, prepend=bins[0] - 1)) if len(bins) else np.zeros(0, np.int64)
    if not len(first):
        return times_ns[:0], scores[:0]
    return bins[first] * bin_ns, np.maximum.reduceat(scores, first)
