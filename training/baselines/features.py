"""What a line says of itself, as numbers: the features of the learned baselines.

They hold what the model's line and its context hold (PDU, interval, state, what came before), of the line
and of lines before it only.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from training.baselines.columns import Columns, Floats, Ints
from training.baselines.occurrences import Came, Occurrences
from training.baselines.rhythm import Rhythm, learn_rhythms

__all__ = ["FEATURES", "FeatureStream", "LearnedFeatures", "Matrix"]

Matrix = npt.NDArray[np.float32]

FEATURES = (
    "interval in cycles",
    "log10 of the interval in µs",
    "octaves off the cycle",
    "count in 0.1 s above its mean",
    "count in 1 s above its mean",
    "log10 of the PDU's typical interval in µs",
    "-log10 of its share after the PDU before",
    "-log10 of its share after the PDU before that",
    "state is not initialized",
    "state is startup-shutdown",
)
"""Columns of the matrix. An interval in cycles is one in typical intervals, at most 20; octaves at most 6.

A first occurrence, and any line of an unknown PDU, counts as one that came on time. Which PDUs came before is
told as how usual it is that this one follows them: their numbers mean nothing to a distance.
"""

_WINDOWS_NS = (100_000_000, 1_000_000_000)
_MOST_CYCLES, _MOST_OCTAVES = 20.0, 6.0
_PSEUDO_COUNT = 0.5


class LearnedFeatures:
    """What clean traffic has to say for features to be relative to it.

    Args:
        clean: its pieces.

    Raises:
        InputError: no PDU comes often enough.
    """

    def __init__(self, clean: Sequence[Columns]) -> None:
        self.rhythms: Mapping[int, Rhythm] = learn_rhythms(clean)
        self.pdus = max((int(piece.pdu.max()) + 1 for piece in clean if len(piece.pdu)), default=0)
        self.mean_counts = self._mean_counts(clean)
        self.rarity = tuple(self._rarity(clean, steps) for steps in (1, 2))

    def begin(self) -> "FeatureStream":
        """A fresh stream, for one trace."""
        return FeatureStream(self)

    def _mean_counts(self, clean: Sequence[Columns]) -> dict[int, Floats]:
        sums = {pdu: np.zeros(1 + len(_WINDOWS_NS)) for pdu in self.rhythms}
        for piece in clean:
            for came in Occurrences(lambda _: _WINDOWS_NS[-1]).add(piece):
                if came.pdu in sums:
                    counts = [float(came.within(window).sum()) for window in _WINDOWS_NS]
                    sums[came.pdu] += [len(came.rows), *counts]
        return {pdu: total[1:] / total[0] for pdu, total in sums.items()}

    def _rarity(self, clean: Sequence[Columns], steps: int) -> Floats:
        """-log10 of the share of each PDU (column) so many steps after another (row); the last is unknown."""
        size = self.pdus + 1
        counts = np.full(size * size, _PSEUDO_COUNT)
        for piece in clean:
            pairs = piece.pdu[:-steps].astype(np.int64) * size + piece.pdu[steps:]
            counts += np.bincount(pairs, minlength=size * size)
        table = counts.reshape(size, size)
        rarity: Floats = -np.log10(table / table.sum(axis=1, keepdims=True))
        return rarity


class FeatureStream:
    """Makes the features of one trace, batch by batch."""

    def __init__(self, learned: LearnedFeatures) -> None:
        self._learned = learned
        self._occurrences = Occurrences(lambda _: _WINDOWS_NS[-1])
        self._before = self._nothing()

    def gap(self) -> None:
        """Begin anew."""
        self._occurrences.forget()
        self._before = self._nothing()

    def matrix(self, lines: Columns) -> Matrix:
        """Features of the next lines, finite, shape (lines, len(FEATURES))."""
        learned = self._learned
        matrix = np.zeros((len(lines.time_ns), len(FEATURES)), dtype=np.float32)
        matrix[:, 0] = 1.0
        for came in self._occurrences.add(lines):
            rhythm = learned.rhythms.get(came.pdu)
            if rhythm is not None:
                self._fill(matrix, came, rhythm)
        pdus = np.minimum(lines.pdu, learned.pdus)
        history = np.concatenate([self._before, pdus])
        for column, rarity, steps in zip((6, 7), learned.rarity, (1, 2), strict=True):
            matrix[:, column] = rarity[history[2 - steps : len(history) - steps], pdus]
        self._before = history[-2:]
        matrix[:, 8] = lines.state == 0
        matrix[:, 9] = lines.state == 2
        return matrix

    def _fill(self, matrix: Matrix, came: Came, rhythm: Rhythm) -> None:
        typical_us = rhythm.typical_ns / 1e3
        matrix[came.rows, 1] = matrix[came.rows, 5] = math.log10(typical_us)
        following, intervals = came.following, came.intervals_ns
        cycles = intervals / rhythm.typical_ns
        matrix[following, 0] = np.minimum(cycles, _MOST_CYCLES)
        logs = np.log10(np.maximum(intervals, 1_000) / 1e3)
        matrix[following, 1] = logs
        octaves = np.abs(logs - math.log10(typical_us)) / math.log10(2)
        matrix[following, 2] = np.minimum(octaves, _MOST_OCTAVES)
        means = self._learned.mean_counts[came.pdu]
        for column, window, mean in zip((3, 4), _WINDOWS_NS, means, strict=True):
            matrix[came.rows, column] = came.within(window) - mean

    def _nothing(self) -> Ints:
        return np.full(2, self._learned.pdus)
