"""Lines drawn to train on, the same for the same seed: not every learner can take hours of them."""

from collections.abc import Sequence

import numpy as np

from training.baselines.columns import Bools, Columns, Ints
from training.baselines.features import LearnedFeatures, Matrix
from training.draws import make_key, uniform

__all__ = ["BLOCK_LINES", "draw_balanced", "draw_rows", "rows_of_matrix"]

BLOCK_LINES = 1 << 16
"""Lines that are turned into features at once."""


def draw_rows(candidates: Ints, count: int, key: int) -> Ints:
    """At most `count` of the candidate rows, each as likely, sorted."""
    if len(candidates) <= count:
        return candidates
    drawn = uniform(key, candidates)
    return np.sort(candidates[np.argpartition(drawn, count)[:count]])


def draw_balanced(labels: Bools, count: int, seed: int) -> Ints:
    """Rows, half of them labelled; where there are too few of one kind, more of the other. Sorted."""
    known, others = np.flatnonzero(labels), np.flatnonzero(~labels)
    most_known = max(count - count // 2, count - len(others))
    known = draw_rows(known, most_known, make_key("drawn lines", seed, "labelled"))
    others = draw_rows(others, count - len(known), make_key("drawn lines", seed, "others"))
    return np.sort(np.concatenate([known, others]))


def rows_of_matrix(learned: LearnedFeatures, pieces: Sequence[Columns], rows: Ints) -> Matrix:
    """Features of some rows of all pieces one after the other; `rows` must be sorted."""
    parts: list[Matrix] = []
    at = 0
    for piece in pieces:
        stream = learned.begin()
        for lines in piece.parts(BLOCK_LINES):
            matrix = stream.matrix(lines)
            first, stop = np.searchsorted(rows, [at, at + len(matrix)])
            parts.append(matrix[rows[first:stop] - at])
            at += len(matrix)
    return np.concatenate(parts)
