"""Scores of lines against the labels of one judge, without a threshold."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from training.evaluation.results import Ranked
from training.labels import Label
from training.measures.bins import peaks
from training.measures.intervals import Bools, Times, union
from training.measures.lines import measure_lines
from training.measures.proximity import pate
from training.measures.ranges import range_auc_pr, vus_pr
from training.metrics import Span

__all__ = ["BUFFER_NS", "PEAK_NS", "REGION_NS", "rank_lines"]

PEAK_NS = 100_000_000
BUFFER_NS = 1_000_000_000
_BUFFERS_NS = tuple(range(0, BUFFER_NS + 1, 2 * PEAK_NS))
REGION_NS = 100_000_000
"""Lines at most so far apart are one region, as in the reproduction of the paper's table IV."""


def rank_lines(
    times_ns: Times,
    scores: npt.NDArray[np.floating],
    labelled: Bools,
    counted: Bools,
    labels: Sequence[Label],
) -> Ranked:
    """All measures of a ranking.

    Args:
        times_ns: of the lines, sorted, shape (lines,).
        scores: higher for stranger, shape (lines,).
        labelled: lines that are labelled, shape (lines,).
        counted: lines that count, shape (lines,): not those at which the model is warming.
        labels: sorted by start.
    """
    lines = measure_lines(scores, labelled, counted)
    at, highest = peaks(times_ns[counted], scores[counted], PEAK_NS)
    # A fault shorter than a bin would lie between two bins' times.
    faults = union(Span(label.start_ns // PEAK_NS * PEAK_NS, label.end_ns, 0) for label in labels)
    return Ranked(
        average_precision=lines.average_precision,
        prevalence=lines.prevalence,
        range_auc_pr=range_auc_pr(at, highest, faults, BUFFER_NS),
        vus_pr=vus_pr(at, highest, faults, _BUFFERS_NS),
        pate=pate(at, highest, faults, [0, BUFFER_NS], [0, BUFFER_NS]),
    )
