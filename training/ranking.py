"""How well scores tell a rare kind from the rest, without a threshold."""

import numpy as np
import numpy.typing as npt

__all__ = ["auc", "average_precision", "found_and_false"]

Scores = npt.NDArray[np.floating]
Kinds = npt.NDArray[np.bool_]


def auc(scores: Scores, positive: Kinds) -> float | None:
    """Share of pairs of a positive and a negative in which the positive scores higher; ties count half.

    Args:
        scores: higher for more likely positive, shape (n,).
        positive: shape (n,).

    Returns:
        The area under the ROC curve; None where one of the kinds is missing.
    """
    found, false = found_and_false(scores, positive)
    if not len(found) or not found[-1] or not false[-1]:
        return None
    return float(np.trapezoid(np.append(0, found), np.append(0, false)) / found[-1] / false[-1])


def average_precision(scores: Scores, positive: Kinds) -> float | None:
    """Mean over the positives of the precision at their own score as threshold (not interpolated).

    A random score has the share of positives. Arguments and None as in `auc`.
    """
    found, false = found_and_false(scores, positive)
    if not len(found) or not found[-1] or not false[-1]:
        return None
    precision = found / (found + false)
    return float((np.diff(found, prepend=0) * precision).sum() / found[-1])


def found_and_false(scores: Scores, positive: Kinds) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Positives and negatives at or above each distinct score, from the highest down; shapes (distinct,)."""
    order = np.argsort(scores)[::-1]
    last_of_its_score = np.append(np.diff(scores[order]) != 0, [True] * bool(len(order))).astype(np.bool_)
    found = np.cumsum(positive[order], dtype=np.int64)[last_of_its_score]
    return found, np.flatnonzero(last_of_its_score) + 1 - found
