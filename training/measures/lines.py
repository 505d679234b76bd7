"""How well scores of single lines meet line labels, at one threshold and over all."""

from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from training.measures.intervals import Bools, Scores
from training.ranking import average_precision, found_and_false

__all__ = ["Confusion", "Curve", "LineMeasures", "composite_f1", "confusion", "curve", "measure_lines"]

Value = TypeVar("Value", bound=np.generic)


class Confusion(NamedTuple):
    """Counts of one kind of thing (lines, regions) that was told or should have been.

    Attributes:
        found: labelled ones that were told.
        labelled: all labelled ones.
        right: told ones that are labelled; for lines the same as `found`.
        told: all told ones.
    """

    found: int
    labelled: int
    right: int
    told: int

    @property
    def recall(self) -> float | None:
        """Share of the labelled that were told; None where none is labelled."""
        return self.found / self.labelled if self.labelled else None

    @property
    def precision(self) -> float | None:
        """Share of the told that are labelled; None where none was told."""
        return self.right / self.told if self.told else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of both, 0 where nothing was told; None where none is labelled."""
        return harmonic(self.precision or 0.0, self.recall)


class Curve(NamedTuple):
    """Precision and recall at every threshold that makes a difference, from the highest down.

    Attributes:
        thresholds: lines that score at least this are told, shape (thresholds,).
        precision: shape (thresholds,).
        recall: shape (thresholds,).
    """

    thresholds: npt.NDArray[np.float64]
    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]

    def best_f1(self) -> tuple[float, float]:
        """The highest F1 and its threshold: chosen on what it is measured on, so an upper bound only."""
        both = self.precision + self.recall
        f1 = np.divide(2 * self.precision * self.recall, both, out=np.zeros_like(both), where=both > 0)
        best = int(f1.argmax())
        return float(f1[best]), float(self.thresholds[best])


class LineMeasures(NamedTuple):
    """Lines of a trace, ranked by their score.

    Attributes:
        lines: that count.
        excluded: share of all lines that do not.
        labelled: lines that are labelled, among those that count.
        prevalence: their share, which is the average precision of a random score; None without lines.
        ties: share of the lines that have their score in common with another one.
        average_precision: area under the precision/recall steps; None where all or no lines are labelled.
    """

    lines: int
    excluded: float
    labelled: int
    prevalence: float | None
    ties: float
    average_precision: float | None


def harmonic(precision: float, recall: float | None) -> float | None:
    """Harmonic mean of precision and recall; None where recall is."""
    if recall is None:
        return None
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def composite_f1(line_precision: float | None, event_recall: float | None) -> float | None:
    """Harmonic mean of the precision of lines and the recall of events (Garg et al., arXiv 2109.11428).

    Not fooled by one lucky line in a long event, as point-adjusted F1 is: lines told in vain count. None
    where there is no event.
    """
    return harmonic(line_precision or 0.0, event_recall)


def confusion(told: Bools, labelled: Bools, counted: Bools | None = None) -> Confusion:
    """Lines told against lines labelled.

    Args:
        told: shape (lines,).
        labelled: shape (lines,).
        counted: lines that count, shape (lines,); all without it.

    Raises:
        ValueError: the shapes differ.
    """
    told, labelled = _those_that_count(told, labelled, counted)
    found = int((told & labelled).sum())
    return Confusion(found, int(labelled.sum()), found, int(told.sum()))


def curve(scores: Scores, labelled: Bools, counted: Bools | None = None) -> Curve | None:
    """Precision and recall of lines over all thresholds; None where no line is labelled.

    Args:
        scores: higher for stranger, finite, shape (lines,).
        labelled: shape (lines,).
        counted: lines that count, shape (lines,); all without it.

    Raises:
        ValueError: the shapes differ.
    """
    scores, labelled = _those_that_count(scores, labelled, counted)
    if not labelled.any():
        return None
    found, false = found_and_false(scores, labelled)
    thresholds = np.unique(scores)[::-1].astype(np.float64)
    return Curve(thresholds, found / (found + false), found / found[-1])


def measure_lines(scores: Scores, labelled: Bools, counted: Bools | None = None) -> LineMeasures:
    """Rank the lines that count and say what the ranking is worth; O(n log n).

    Args:
        scores: higher for stranger, finite, shape (lines,).
        labelled: shape (lines,).
        counted: lines that count, shape (lines,); all without it. Lines in capture gaps, in controls or
            while the model is warming do not.

    Raises:
        ValueError: the shapes differ.
    """
    every = len(scores)
    scores, labelled = _those_that_count(scores, labelled, counted)
    _, sizes = np.unique(scores, return_counts=True)
    alone = int((sizes == 1).sum())
    lines = len(scores)
    return LineMeasures(
        lines=lines,
        excluded=1 - lines / every if every else 0.0,
        labelled=int(labelled.sum()),
        prevalence=float(labelled.mean()) if lines else None,
        ties=1 - alone / lines if lines else 0.0,
        average_precision=average_precision(scores, labelled),
    )


def _those_that_count(
    values: npt.NDArray[Value], labelled: Bools, counted: Bools | None
) -> tuple[npt.NDArray[Value], Bools]:
    """Both without the lines that do not count."""
    if len(values) != len(labelled) or (counted is not None and len(counted) != len(values)):
        raise ValueError("scores, labels and mask need one entry a line each")
    return (values, labelled) if counted is None else (values[counted], labelled[counted])
