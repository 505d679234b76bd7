"""Control charts of one PDU: EWMA and CUSUM of its standardised deviations.

EWMA: Roberts 1959, doi 10.1080/00401706.1959.10489860; its standard deviation is the asymptotic one. CUSUM:
Page 1954, doi 10.2307/2333009, two-sided, with the usual allowance of half a standard deviation.

Both go back slowly, long after what moved them. So a line scores only if it is off by more than the
allowance, to the side on which the chart stands, and a chart beyond its limit starts anew with the first
line that is not.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from scipy.signal import lfilter

from training.baselines.columns import Floats

__all__ = ["Chart", "Cusum", "Ewma"]

_ALLOWANCE = 0.5
_WEIGHT = 0.2
_EWMA_SIGMA = math.sqrt(_WEIGHT / (2.0 - _WEIGHT))
_GRAIN = 2.0**16


class Chart(ABC):
    """One chart; feed it deviations in order, cut as they come.

    Args:
        limit: beyond it the chart starts anew once the deviations are small again.

    Attributes:
        usual_limit: the one of textbooks.
    """

    usual_limit: ClassVar[float]

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._sides = (0.0, 0.0)

    def step(self, deviations: Floats) -> Floats:
        """Where the chart stands after each of the next deviations, if they moved it there, shape (n,).

        Args:
            deviations: in standard deviations, shape (n,).
        """
        scores = np.zeros(len(deviations))
        small = np.abs(deviations) <= _ALLOWANCE
        at = 0
        while at < len(deviations):
            high, low = self._run(*self._sides, deviations[at:])
            beyond = np.append(max(self._sides), np.maximum(high, low)[:-1]) > self._limit
            back = np.flatnonzero(beyond & small[at:])
            stop = int(back[0]) if len(back) else len(high)
            rows = slice(at, at + stop)
            side = np.where(deviations[rows] > 0, high[:stop], low[:stop])
            scores[rows] = np.where(small[rows], 0.0, np.maximum(side, 0.0))
            self._sides = (float(high[-1]), float(low[-1])) if stop == len(high) else (0.0, 0.0)
            at += stop + 1
        return scores

    @abstractmethod
    def _run(self, high: float, low: float, deviations: Floats) -> tuple[Floats, Floats]:
        """How far the chart stands to the high side and to the low one after each deviation."""


class Ewma(Chart):
    """Mean of all deviations, the newest with weight 0.2, the others falling off, in sigmas of that mean."""

    usual_limit = 3.0

    def _run(self, high: float, low: float, deviations: Floats) -> tuple[Floats, Floats]:
        start = np.array([(1.0 - _WEIGHT) * high])
        means, _ = lfilter([_WEIGHT / _EWMA_SIGMA], [1.0, _WEIGHT - 1.0], deviations, zi=start)
        return means, -means


class Cusum(Chart):
    """Sums of what the deviations have above the allowance, to either side, never below 0.

    Deviations are rounded to 2^-16, so that sums are exact however they are cut.
    """

    usual_limit = 5.0

    def _run(self, high: float, low: float, deviations: Floats) -> tuple[Floats, Floats]:
        rounded = np.rint(deviations * _GRAIN) / _GRAIN
        return _sums(high, rounded - _ALLOWANCE), _sums(low, -rounded - _ALLOWANCE)


def _sums(start: float, gains: Floats) -> Floats:
    """S[t] = max(0, S[t - 1] + gains[t])."""
    free = start + np.cumsum(gains)
    sums: Floats = free - np.minimum(np.minimum.accumulate(free), 0.0)
    return sums
