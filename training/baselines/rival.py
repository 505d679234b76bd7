"""A fitted baseline with its thresholds, and what it makes of a trace as the lines come."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from training.baselines.columns import Columns, joined
from training.baselines.drawn import BLOCK_LINES
from training.baselines.episodes import Moments, join_by_bus, threshold_for
from training.baselines.protocol import DeadlineFitted, DeadlineScoring, Fitted
from training.metrics import Span

__all__ = ["Rival", "RivalRun", "thresholds_of"]


class Rival(NamedTuple):
    """A fitted baseline.

    Attributes:
        name: of the baseline.
        fitted: what it has learned.
        thresholds: by budget of false alarms an hour.
        learned_from: SHA-256 of the traces that it has seen.
    """

    name: str
    fitted: Fitted
    thresholds: dict[float, float]
    learned_from: frozenset[str]


def thresholds_of(
    fitted: Fitted,
    held_out: Sequence[Columns],
    sources: Sequence[str],
    budgets_per_hour: Sequence[float],
    join_ns: int,
) -> dict[float, float]:
    """What a score must exceed, by budget of false alarms an hour.

    Args:
        fitted: the baseline.
        held_out: pieces of clean traffic that it has not learned from.
        sources: bus of each PDU, by number.
        budgets_per_hour: of false alarms.
        join_ns: the detector's.
    """
    moments = [_moments(fitted, piece) for piece in held_out]
    return {budget: float(threshold_for(moments, sources, budget, join_ns)) for budget in budgets_per_hour}


def _moments(fitted: Fitted, piece: Columns) -> Moments:
    """Scores of a clean piece; what never comes back in it counts as if it came with the last line."""
    scoring = fitted.begin()
    times, pdus = piece.time_ns, piece.pdu
    scores = np.concatenate([np.zeros(0), *(scoring.scores(part) for part in piece.parts(BLOCK_LINES))])
    if isinstance(scoring, DeadlineScoring):
        overdue, more = scoring.overdue(int(times.max()))
        times = np.concatenate([times, np.full(len(overdue), times.max())])
        pdus = np.concatenate([pdus, overdue.astype(np.int32)])
        scores = np.concatenate([scores, more])
    return Moments(times, pdus, scores)


class RivalRun:
    """One baseline on one trace, at every budget.

    Args:
        rival: the baseline.
        sources: bus of each PDU, by number; may grow.
        join_ns: the detector's.
        ranked: whether somebody judges its lines; else their scores are not kept.
    """

    def __init__(self, rival: Rival, sources: Sequence[str], join_ns: int, ranked: bool) -> None:
        self.rival = rival
        self._sources = sources
        self._join_ns = join_ns
        self._ranked = ranked
        self._scoring = rival.fitted.begin()
        self._watches = {}
        if isinstance(rival.fitted, DeadlineFitted):
            self._watches = {b: rival.fitted.watch(t, sources) for b, t in rival.thresholds.items()}
        self._waiting: list[Columns] = []
        self._lines = 0
        self._scores: list[npt.NDArray[np.float32]] = []
        self._above: dict[float, list[Columns]] = {budget: [] for budget in rival.thresholds}
        self._spans: dict[float, list[Span]] = {budget: [] for budget in rival.thresholds}

    def add(self, lines: Columns) -> None:
        """Take the next lines; they are scored many at once."""
        self._waiting.append(lines)
        self._lines += len(lines.time_ns)
        if self._lines >= BLOCK_LINES:
            self._score()

    def gap(self) -> None:
        """The next lines do not follow the ones before."""
        self._score()
        self._end_piece()
        self._scoring.gap()
        for watch in self._watches.values():
            watch.gap()

    def _score(self) -> None:
        if not self._lines:
            return
        lines = joined(self._waiting)
        self._waiting, self._lines = [], 0
        scores = self._scoring.scores(lines)
        if self._ranked:
            self._scores.append(scores.astype(np.float32))
        for budget, threshold in self.rival.thresholds.items():
            if budget in self._watches:
                self._watches[budget].add(lines)
            else:
                self._above[budget].append(_those(lines, scores > threshold))

    def _end_piece(self) -> None:
        """What was told before an interruption is not joined to what is told after it."""
        for budget, parts in self._above.items():
            above = joined(parts)
            self._spans[budget] += join_by_bus(above.time_ns, above.pdu, self._sources, self._join_ns)
            parts.clear()

    def finish(self) -> tuple[npt.NDArray[np.float32], dict[float, list[Span]]]:
        """Scores of all lines if they are ranked, shape (lines,), and episodes at each budget."""
        self._score()
        self._end_piece()
        watched = {budget: watch.spans(self._join_ns) for budget, watch in self._watches.items()}
        return np.concatenate([np.zeros(0, np.float32), *self._scores]), self._spans | watched


def _those(lines: Columns, told: npt.NDArray[np.bool_]) -> Columns:
    return Columns(lines.time_ns[told], lines.pdu[told], lines.state[told])
