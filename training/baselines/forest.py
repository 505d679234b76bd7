"""An isolation forest over the features of lines, standardised per PDU."""

from collections.abc import Sequence

import numpy as np
from sklearn.ensemble import IsolationForest

from training.baselines.columns import Columns, Floats, Ints, Labelled
from training.baselines.drawn import BLOCK_LINES, draw_rows, rows_of_matrix
from training.baselines.features import LearnedFeatures, Matrix
from training.draws import make_key

__all__ = ["IsolationForestScore"]

_CLEAN_LINES = 200_000
_TREES = 50
_LEAST_SD = 0.05
_MOST_SDS = 50.0
_FEWEST_LINES = 20


class IsolationForestScore:
    """Isolation forest (Liu, Ting, Zhou 2008, doi 10.1109/ICDM.2008.17): 50 trees of 256 lines each.

    Means, standard deviations and trees are learned from at most 200,000 drawn lines of clean traffic; a
    PDU with less than 20 of them is standardised as all together. The score is scikit-learn's with the sign
    turned: 0 to 1, higher for lines that are told from others by fewer questions. The depth of a tree
    bounds it: a line off by 5 standard deviations scores about as one off by 50.

    Args:
        seed: draws lines and trees.
    """

    name = "isolation forest"
    needs_labels = False

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def fit(self, clean: Sequence[Columns], labelled: Sequence[Labelled]) -> "FittedForest":
        """Learn from clean traffic.

        Raises:
            InputError: no PDU comes often enough.
        """
        learned = LearnedFeatures(clean)
        lines = sum(len(piece.time_ns) for piece in clean)
        rows = draw_rows(np.arange(lines), _CLEAN_LINES, make_key("isolation forest", self._seed))
        matrix = rows_of_matrix(learned, clean, rows)
        pdu = np.concatenate([piece.pdu for piece in clean])[rows].astype(np.int64)
        standard = _Standard(matrix, pdu, learned.pdus)
        forest = IsolationForest(n_estimators=_TREES, max_samples=256, random_state=self._seed)
        forest.fit(standard(matrix, pdu))
        return FittedForest(learned, standard, forest)


class _Standard:
    """Features in standard deviations of their PDU; the last row is for PDUs that are rare or unknown."""

    def __init__(self, matrix: Matrix, pdu: Ints, pdus: int) -> None:
        self._pdus = pdus
        self._means = np.tile(matrix.mean(axis=0, dtype=np.float64), (pdus + 1, 1))
        self._sds = np.tile(matrix.std(axis=0, dtype=np.float64), (pdus + 1, 1))
        for number in range(pdus):
            own = matrix[pdu == number]
            if len(own) >= _FEWEST_LINES:
                self._means[number] = own.mean(axis=0, dtype=np.float64)
                self._sds[number] = own.std(axis=0, dtype=np.float64)
        # What never changes in clean traffic would be infinitely strange at its first change.
        np.maximum(self._sds, _LEAST_SD, out=self._sds)

    def __call__(self, matrix: Matrix, pdu: Ints) -> Matrix:
        """Shape (lines, features) as given."""
        own = np.minimum(pdu, self._pdus)
        deviations = (matrix - self._means[own]) / self._sds[own]
        clipped: Matrix = np.clip(deviations, -_MOST_SDS, _MOST_SDS).astype(np.float32)
        return clipped


class FittedForest:
    """A forest and what its features are relative to."""

    def __init__(self, learned: LearnedFeatures, standard: _Standard, forest: IsolationForest) -> None:
        self._learned = learned
        self._standard = standard
        self._forest = forest

    def begin(self) -> "ForestScoring":
        """A fresh scoring."""
        return ForestScoring(self._learned, self._standard, self._forest)


class ForestScoring:
    """Scores one trace."""

    def __init__(self, learned: LearnedFeatures, standard: _Standard, forest: IsolationForest) -> None:
        self._features = learned.begin()
        self._standard = standard
        self._forest = forest

    def scores(self, lines: Columns) -> Floats:
        """0 to 1, shape (lines,)."""
        scores = np.zeros(len(lines.time_ns))
        at = 0
        for block in lines.parts(BLOCK_LINES):
            matrix = self._standard(self._features.matrix(block), block.pdu.astype(np.int64))
            scores[at : at + len(matrix)] = -self._forest.score_samples(matrix)
            at += len(matrix)
        return scores

    def gap(self) -> None:
        """Features begin anew."""
        self._features.gap()
