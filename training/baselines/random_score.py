"""A random score: what every measure must be held against."""

from collections.abc import Sequence

import numpy as np

from training.baselines.columns import Columns, Floats, Labelled
from training.draws import make_key, uniform

__all__ = ["RandomScore"]


class RandomScore:
    """Uniform in [0, 1), a function of the seed, the time of the trace's first line, and the line's number.

    Args:
        seed: another one gives other scores.
    """

    name = "random"
    needs_labels = False

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def fit(self, clean: Sequence[Columns], labelled: Sequence[Labelled]) -> "RandomScore":
        """There is nothing to learn."""
        return self

    def begin(self) -> "_RandomScoring":
        """A fresh scoring."""
        return _RandomScoring(self._seed)


class _RandomScoring:
    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._key: int | None = None
        self._count = 0

    def scores(self, lines: Columns) -> Floats:
        count = len(lines.time_ns)
        if not count:
            return np.zeros(0)
        if self._key is None:
            self._key = make_key("random score", self._seed, int(lines.time_ns[0]))
        self._count += count
        return uniform(self._key, np.arange(self._count - count, self._count))

    def gap(self) -> None:
        """Nothing is remembered but the count."""
