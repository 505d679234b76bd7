"""Which lines of a trace a picture of its scores needs."""

import numpy as np
import numpy.typing as npt

__all__ = ["thinned"]


def thinned(
    times_ns: npt.NDArray[np.int64], scores: npt.NDArray[np.floating], steps: int = 1200, dots: int = 800
) -> npt.NDArray[np.int64]:
    """Lines that a picture needs: the lowest and highest of each step of time, and the highest of all.

    Args:
        times_ns: sorted, shape (lines,).
        scores: shape (lines,).
        steps: of time.
        dots: how many of the highest.

    Returns:
        Numbers of lines, sorted.
    """
    if not len(times_ns):
        return np.zeros(0, np.int64)
    since = times_ns - times_ns[0]
    step = np.minimum(since * steps // max(int(since[-1]), 1), steps - 1)
    order = np.lexsort((scores, step))
    edges = np.flatnonzero(np.diff(step[order], append=-1))
    highest, lowest = order[edges], order[np.append(0, edges[:-1] + 1)]
    return np.unique(np.concatenate([highest, lowest, np.argsort(-scores, kind="stable")[:dots]]))
