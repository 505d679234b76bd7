"""Five classical classifiers that learn from an annotator's labels.

They are the ones that fine-tuned language models are compared with in predictive maintenance. The reference
paper (arXiv 2507.01077) compares with none, so their features are ours, see `training.baselines.features`.
What they learn is the annotator, wrong labels and all.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ecustream.errors import InputError
from training.baselines.columns import Columns, Floats, Labelled, labels_of
from training.baselines.drawn import BLOCK_LINES, draw_balanced, rows_of_matrix
from training.baselines.features import LearnedFeatures

__all__ = ["LabelClassifier", "label_classifiers"]

_MANY_LINES = 100_000
_FEW_LINES = 2_000
_NEIGHBOURS = 15
_KERNEL_LINES = 1024
"""At once: their kernel values stay in the cache of a core."""


class QuickSVC(SVC):  # type: ignore[misc]
    """`SVC` with the radial kernel, whose decisions are products of matrices: several times as fast."""

    def decision_function(self, X: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:  # noqa: N803 - scikit-learn's name
        """Signed distance to the boundary, shape (lines,)."""
        gamma, vectors, weights = self._gamma, self.support_vectors_, self.dual_coef_[0]
        doubled, norms = 2 * gamma * vectors.T, gamma * np.square(vectors).sum(axis=1)
        decisions = np.empty(len(X))
        for start in range(0, len(X), _KERNEL_LINES):
            lines = X[start : start + _KERNEL_LINES].astype(np.float64)
            # -gamma |x - v|^2, in place.
            kernel = lines @ doubled
            kernel -= norms
            kernel -= gamma * np.square(lines).sum(axis=1, keepdims=True)
            np.exp(kernel, out=kernel)
            decisions[start : start + len(lines)] = kernel @ weights
        return decisions + float(self.intercept_[0])


class Neighbours(BaseEstimator):  # type: ignore[misc]
    """scikit-learn's `KNeighborsClassifier` of 15, weighed by 1 / distance; SciPy's tree is twice as fast."""

    def fit(self, X: npt.NDArray[np.floating], y: npt.NDArray[np.bool_]) -> "Neighbours":  # noqa: N803
        """Keep all lines."""
        self.labels_, self.tree_ = y, cKDTree(X)
        return self

    def decision_function(self, X: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:  # noqa: N803
        """Weight of the labelled neighbours, 0 to 1, shape (lines,)."""
        distances, rows = self.tree_.query(X, min(_NEIGHBOURS, len(self.labels_)))
        distances, rows = distances.reshape(len(X), -1), rows.reshape(len(X), -1)
        # Where a neighbour is at the same place, it and others there are all that count.
        same = distances == 0.0
        with np.errstate(divide="ignore"):
            weights = np.where(same.any(axis=1, keepdims=True), same, 1.0 / distances)
        share: npt.NDArray[np.float64] = (weights * self.labels_[rows]).sum(axis=1) / weights.sum(axis=1)
        return share


class LabelClassifier:
    """A classifier of scikit-learn on the features of lines.

    It is trained on drawn lines, half of them labelled where there are as many, so that rare labels count;
    thresholds come from clean traffic, so that the share of labels in training does not matter.

    Args:
        name: in tables.
        make: a fresh classifier, from a seed.
        most_lines: to train on; what a support vector machine or neighbours need to answer in time.
        seed: draws the lines, and what the classifier draws.
    """

    needs_labels = True

    def __init__(self, name: str, make: Callable[[int], Any], most_lines: int, seed: int = 0) -> None:
        self.name = name
        self._make = make
        self._most_lines = most_lines
        self._seed = seed

    def fit(self, clean: Sequence[Columns], labelled: Sequence[Labelled]) -> "FittedClassifier":
        """Learn features from clean traffic, labels from labelled traffic.

        Raises:
            InputError: no PDU comes often enough, or all labels are the same.
        """
        labels = labels_of(labelled)
        if labels.all() or not labels.any():
            which = "every line" if len(labels) and labels.all() else "no line"
            raise InputError(f"{self.name} cannot learn: {which} of the labelled traffic is labelled")
        learned = LearnedFeatures(clean)
        rows = draw_balanced(labels, self._most_lines, self._seed)
        matrix = rows_of_matrix(learned, [piece.columns for piece in labelled], rows)
        classifier = self._make(self._seed)
        classifier.fit(matrix, labels[rows])
        return FittedClassifier(learned, classifier)


class FittedClassifier:
    """A trained classifier and what its features are relative to."""

    def __init__(self, learned: LearnedFeatures, classifier: Any) -> None:
        self._learned = learned
        self._classifier = classifier

    def begin(self) -> "ClassifierScoring":
        """A fresh scoring."""
        return ClassifierScoring(self._learned, self._classifier)


class ClassifierScoring:
    """Scores one trace."""

    def __init__(self, learned: LearnedFeatures, classifier: Any) -> None:
        self._features = learned.begin()
        self._classifier = classifier

    def scores(self, lines: Columns) -> Floats:
        """Log odds or distance to the boundary; the share of votes where there is none. Shape (lines,)."""
        scores = np.zeros(len(lines.time_ns))
        at = 0
        for block in lines.parts(BLOCK_LINES):
            matrix = self._features.matrix(block)
            scores[at : at + len(matrix)] = _confidence(self._classifier, matrix.astype(np.float64))
            at += len(matrix)
        return scores

    def gap(self) -> None:
        """Features begin anew."""
        self._features.gap()


def _confidence(classifier: Any, matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.floating]:
    if hasattr(classifier, "decision_function"):
        return np.asarray(classifier.decision_function(matrix))
    return np.asarray(classifier.predict_proba(matrix)[:, 1])


def label_classifiers(seed: int = 0) -> list[LabelClassifier]:
    """Random forest, logistic regression, support vector machine, k nearest neighbours, gradient boosting."""
    return [
        LabelClassifier("random forest", _random_forest, _MANY_LINES, seed),
        LabelClassifier("logistic regression", _logistic_regression, _MANY_LINES, seed),
        LabelClassifier("support vector machine", _support_vector_machine, _FEW_LINES, seed),
        LabelClassifier("k nearest neighbours", _nearest_neighbours, _FEW_LINES, seed),
        LabelClassifier("gradient boosting", _gradient_boosting, _MANY_LINES, seed),
    ]


def _random_forest(seed: int) -> Any:
    return RandomForestClassifier(n_estimators=50, max_depth=12, min_samples_leaf=5, random_state=seed)


def _logistic_regression(seed: int) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=seed))


def _support_vector_machine(seed: int) -> Any:
    return make_pipeline(StandardScaler(), QuickSVC(random_state=seed))


def _nearest_neighbours(_seed: int) -> Any:
    return make_pipeline(StandardScaler(), Neighbours())


def _gradient_boosting(seed: int) -> Any:
    # Without regularisation the leaves of labels that can be told apart grow without bounds.
    return HistGradientBoostingClassifier(early_stopping=False, l2_regularization=1.0, random_state=seed)
